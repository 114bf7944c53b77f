// bench measures the program against the emulator and prints every figure beside its goal and, where it is known, beside
// what AWS's agent was measured at. `make bench` runs it; see --help.
//
// Machines are noisy: figures are medians, shares of a whole are taken in turns with what they are compared to, and
// processor time is the kernel's count (schedstat), which depends least on what else runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

var product, symbols string

type bench struct {
	seconds     time.Duration // of the long download
	idleTime    time.Duration
	quarterTime time.Duration // of 32 sessions at full rate
	repeats     int

	table    strings.Builder
	notes    strings.Builder
	profiles strings.Builder
	missed   int
	compared *comparison // two programs in turns; nil: one, against the goals
}

// figure is a number behind a row, for comparisons: of several in one row each has a name.
type figure struct {
	name  string
	value float64
	more  bool // is better
}

func less(value float64) figure   { return figure{"", value, false} }
func more(value float64) figure   { return figure{"", value, true} }
func inMS(d time.Duration) figure { return less(float64(d) / 1e6) }

func (b *bench) row(what, goal, measured, aws string, holds bool, figures ...figure) {
	if b.compared != nil {
		b.compared.take(what, measured, figures)
		return
	}
	mark := map[bool]string{true: "yes", false: "**no**"}[holds]
	if goal == "" {
		mark = ""
	}
	if !holds {
		b.missed++
	}
	fmt.Fprintf(os.Stderr, "%-100s %-20s %-28s %s\n", what, goal, measured, strings.ReplaceAll(mark, "*", ""))
	fmt.Fprintf(&b.table, "| %s | %s | %s | %s | %s |\n", what, goal, measured, mark, aws)
}

func (b *bench) note(format string, args ...any) {
	if b.compared != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "  ", text)
	b.notes.WriteString("- " + text + "\n")
}

func ms(d time.Duration) string {
	v := float64(d) / 1e6
	if v >= 10 || v <= -10 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.3f ms", v)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	b := &bench{}
	only := flag.String("only", ".*", "a regular `expression`: the measurements to make, by name")
	results := flag.String("results", "", "a `file` to write the table to, as Markdown")
	flag.StringVar(&product, "binary", "build/fumidai", "the `program`")
	flag.StringVar(&symbols, "symbols", "", "the same `program` with symbols, for the profile")
	flag.DurationVar(&b.seconds, "seconds", time.Minute, "`how long` the download under the limit is")
	flag.DurationVar(&b.idleTime, "idle", 20*time.Second, "`how long` idle CPU is watched")
	flag.IntVar(&b.repeats, "repeats", 5, "`how often` transfers are repeated")
	flag.DurationVar(&b.quarterTime, "quarter", 20*time.Second, "`how long` 32 sessions share a quarter of a core")
	against := flag.String("against", "", "another `program`: both are measured in turns, and what is printed are ratios")
	rounds := flag.Int("rounds", 3, "`how often` each is measured in turns")
	flag.Parse()
	wanted, err := regexp.Compile("^(?:" + *only + ")$")
	if err != nil {
		return err
	}
	for _, path := range []*string{&product, &symbols, against} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	ctx := context.Background()
	var chosen []measurement
	for _, m := range b.measurements() {
		if wanted.MatchString(m.name) && (*against == "" || m.name != "profile") {
			chosen = append(chosen, m)
		}
	}
	if *against != "" {
		return b.compare(ctx, chosen, *against, *rounds, *results)
	}
	for _, m := range chosen {
		if err := m.f(ctx); err != nil {
			b.row(m.name, "", "failed: "+err.Error(), "", false)
		}
	}
	if *results != "" {
		if err := os.WriteFile(*results, []byte(b.markdown()), 0o644); err != nil { //nolint:gosec // for everybody
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d goals missed\n", b.missed)
	return nil
}

type measurement struct {
	name string
	f    func(context.Context) error
}

func (b *bench) measurements() []measurement {
	return []measurement{
		{"idle-watching", b.idleWatching}, {"idle-relay", b.idleRelay}, {"memory", b.memoryOfSession},
		{"start-up", b.startUp}, {"first-byte", b.firstByte}, {"first-byte-plugin", b.firstByteOfPlugin},
		{"round-trip", b.roundTrip}, {"plugin-round-trip", b.pluginRoundTrip}, {"limited", b.limited},
		{"quarter", b.quarter}, {"streams", b.manyStreams},
		{"plugin", b.unlimitedPlugin}, {"unlimited", b.unlimited},
		{"forward-round-trip", b.forwardRoundTrip}, {"forward-unlimited", b.forwardUnlimited}, {"forward-limited", b.forwardLimited},
		{"profile", b.profile},
	}
}

// markdown is the whole report.
func (b *bench) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "# Measurements\n\nWritten by `make bench BENCH_SECONDS=%.0f BENCH_RESULTS=bench/RESULTS.md` on %s. ", b.seconds.Seconds(), time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(&out, "The machine: %d cores (%s), a virtual one that others use too, everything on it: target, relay, TLS, gateway, client. ", runtime.NumCPU(), model())
	out.WriteString("What stands beside for AWS's agent was measured earlier, not in this run.\n\n" +
		"| what | goal | measured | holds | AWS's agent |\n|---|---|---|---|---|\n" + b.table.String() + "\n")
	out.WriteString("Of the above:\n" + b.notes.String() + "\n" + b.profiles.String())
	return strings.TrimSpace(out.String()) + "\n"
}

func model() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, found := strings.Cut(string(text), "model name")
	if !found {
		return runtime.GOARCH
	}
	line, _, _ := strings.Cut(rest, "\n")
	_, name, _ := strings.Cut(line, ":")
	return strings.TrimSpace(name)
}
