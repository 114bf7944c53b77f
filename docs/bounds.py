"""docs/bounds.md: every bound that a header of src/ states, with its reason.

A bound is a constant of an enum without a name. Its reason is the comment behind it or right above it, or, when it is the only one of
its enum, above the enum. A bound that is computed from others needs none: the formula is shown. Sentinels, codes and flags are no
bounds; NOT_BOUNDS tells them by their names.
"""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent

# No slot, no stream; exit statuses; descriptors and users; versions and flags of formats.
NOT_BOUNDS = re.compile(r"_NO_|_NONE$|_ABSENT$|_EXIT_|_STATUS_|_FD$|_UID$|^IP_V[46]$|_SYN$|_FIN$|_ROWS$")

HEAD = """# Bounds

Everything is bounded: memory, counts, sizes of what comes from outside, and the time that a step may take. This page lists every bound and its
reason. It is made from the headers by `docs/generate`; `make lint` fails when a bound has no reason, or this page is out of date.

Bounds that users choose are settings: see the [README](../README.md#settings). Running out of anything is an error path with a test,
and does not end other sessions.
"""


def tokens(body):
    """An enum's constants as (comment above, name, expression or None, comment behind)."""
    above, items = "", []
    at = 0
    item = re.compile(r"\s*(/\*.*?\*/)|\s*(\w+)\s*(?:=\s*((?:[^,/]|/(?!\*))+?))?\s*(?=,|/\*|\Z)", re.S)
    while at < len(body) and body[at:].strip(" \n,"):
        at += len(body[at:]) - len(body[at:].lstrip(" \n,"))
        match = item.match(body, at)
        if not match:
            raise ValueError("can't read: " + body[at:at + 60])
        at = match.end()
        if match[1]:
            above = comment(match[1])
            continue
        name, expression = match[2], match[3]
        # The comment behind belongs to it when it begins on its line, or, after a break for its length, on the next one.
        behind = re.compile(r"\s*,?[ \t]*(/\*.*?\*/)", re.S).match(body, at)
        text = ""
        if behind and "\n" not in body[at:behind.start(1)]:
            text, at = comment(behind[1]), behind.end()
        items.append((above, name, " ".join(expression.split()) if expression else None, text))
        above = ""
    return items


def comment(text):
    lines = [line.strip() for line in text.removeprefix("/*").removesuffix("*/").splitlines()]
    return " ".join(" ".join(line.removeprefix("*").strip() for line in lines).split())


def enums(text):
    """The nameless enums of a header: (comment above or "", body)."""
    for match in re.finditer(r"^enum \{(.*?)\}\s*;", text, flags=re.S | re.M):
        before = text[:match.start()]
        above = re.search(r"(/\*(?:(?!\*/).)*\*/)\n\Z", before, flags=re.S)
        yield comment(above[1]) if above else "", match[1]


def evaluate(expression, known):
    names = set(re.findall(r"\b[A-Za-z_]\w*", re.sub(r"\b0x[0-9a-fA-F]+|\b\d+[uUlL]*\b|\(int\)", "", expression)))
    if not names <= known.keys():
        return None
    plain = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]*\b", r"\1", expression).replace("(int)", "")
    return eval(plain.replace("/", "//"), {"__builtins__": {}}, known)  # noqa: S307 (our own headers)


def readable(name, value):
    if name.endswith("_MS"):
        if value % 60000 == 0 and value >= 120000:
            return f"{value // 60000} min"
        return f"{value // 1000} s" if value % 1000 == 0 and value > 0 else f"{value:,} ms"
    if name.endswith("_S"):
        return f"{value} s"
    if name.endswith("_PERCENT"):
        return f"{value} %"
    if re.search(r"_SIZE$|_BYTES$|_MAX$|_HEADROOM$|_OVERHEAD$", name) and value >= 4096 and value % 1024 == 0:
        return f"{value // 1048576} MiB" if value % 1048576 == 0 else f"{value // 1024:,} KiB"
    return f"{value:,}" + (" bytes" if re.search(r"_SIZE$|_BYTES$", name) else "")


def page():
    return made()[0]


def faults():
    return made()[1]


def made():
    """The page, and what is wrong with the headers."""
    out, faults, known = [HEAD], [], {}
    headers = [(path, path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("src/*/*.h"))]
    found = {path: [(above, tokens(body)) for above, body in enums(text)] for path, text in headers}
    # Headers include each other, so until nothing new comes.
    while True:
        before = len(known)
        for path, _ in headers:
            for _, items in found[path]:
                for _, name, expression, _ in items:
                    value = evaluate(expression, known) if expression else None
                    if value is not None:
                        known[name] = value
        if len(known) == before:
            break
    for path, _ in headers:
        name_of_header = path.relative_to(ROOT / "src").as_posix()
        rows = []
        for above_enum, items in found[path]:
            for above, name, expression, behind in items:
                if NOT_BOUNDS.search(name):
                    continue
                reason = ". ".join(part.rstrip(".") for part in (above, behind) if part)
                reason = reason or (above_enum if len(items) == 1 else "")
                computed = bool(re.search(r"[A-Z]\w+|sizeof", expression or ""))
                if not reason and not computed:
                    faults.append(f"src/{name_of_header}: {name} has no reason")
                    continue
                value = readable(name, known[name]) if name in known else ""
                formula = f"`{expression}`" if computed else ""
                reason = "; ".join(part for part in (formula, reason) if part)
                rows.append(f"| `{name}` | {value} | {reason.replace('|', chr(92) + '|')} |")
        if rows:
            out.append(f"\n## [{name_of_header}](../src/{name_of_header})\n\n| bound | value | reason |\n| --- | --- | --- |\n")
            out.append("\n".join(rows) + "\n")
    return "".join(out), faults


