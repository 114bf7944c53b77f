#include "wire/dns_lookup.h"

#include <string.h>

#include "base/num.h"

enum { QUESTION_A, QUESTION_AAAA };

static struct dns_exchange *exchange_of(struct dns_lookup *lookup, size_t question, size_t server)
{
    return &lookup->exchanges[question * DNS_SERVERS_MAX + server];
}

static bool is_open(const struct dns_exchange *x)
{
    return x->state == DNS_EXCHANGE_UDP || x->state == DNS_EXCHANGE_TCP;
}

static void close_exchange(struct dns_exchange *x)
{
    if (is_open(x))
        x->todo = DNS_STEP_CLOSE;
    x->state = DNS_EXCHANGE_OVER;
}

/* --- asking ------------------------------------------------------------------------------------------- */

static bool may_ask_again(const struct dns_lookup *lookup, const struct dns_question *q)
{
    return q->sent < lookup->config.attempts * lookup->config.server_count;
}

static void ask(struct dns_lookup *lookup, size_t question, size_t server, int64_t now_ms)
{
    struct dns_question *q = &lookup->questions[question];
    struct dns_exchange *x = exchange_of(lookup, question, server);
    x->is_plain = x->state == DNS_EXCHANGE_UDP;
    x->todo = x->state == DNS_EXCHANGE_UDP ? DNS_STEP_SEND : DNS_STEP_OPEN;
    x->state = DNS_EXCHANGE_UDP;
    q->sent++;
    q->next_server = server + 1;
    int64_t timeout_ms = lookup->config.timeout_ms;
    int64_t silence_ms = may_ask_again(lookup, q) ? num_min_i64(q->silence_ms, timeout_ms) : timeout_ms;
    q->due_ms = num_add_ms(now_ms, silence_ms);
    q->silence_ms *= 2;
}

/* Asks the server whose turn it is; only one that was not asked yet, if so wanted. False when there is
 * none. */
static bool ask_next(struct dns_lookup *lookup, size_t question, bool only_new, int64_t now_ms)
{
    size_t count = lookup->config.server_count;
    for (size_t i = 0; i < count; i++) {
        size_t server = (lookup->questions[question].next_server + i) % count;
        const struct dns_exchange *x = exchange_of(lookup, question, server);
        if (x->state == DNS_EXCHANGE_UNUSED || (x->state == DNS_EXCHANGE_UDP && !only_new)) {
            ask(lookup, question, server, now_ms);
            return true;
        }
    }
    return false;
}

/* --- the forms of the name ---------------------------------------------------------------------------- */

static bool is_asked_as_it_is(struct str name, uint32_t ndots)
{
    uint32_t dots = 0;
    for (size_t i = 0; i < name.len; i++)
        dots += name.ptr[i] == '.';
    return dots >= ndots || str_ends_with(name, ".");
}

/* Puts the next form into `asked`; false when there is none left. Forms that are not names are left out. */
static bool next_form(struct dns_lookup *lookup)
{
    struct str name = str_from(lookup->name);
    struct str rest = str_slice((struct str){lookup->config.search, lookup->config.search_len},
                                lookup->search_at, lookup->config.search_len);
    struct str domain;
    while (str_take_item(&rest, &domain)) {
        lookup->search_at = lookup->config.search_len - rest.len;
        struct writer w = writer_of(lookup->asked, sizeof lookup->asked);
        writer_str(&w, name);
        writer_char(&w, '.');
        writer_str(&w, domain);
        if (!w.failed && dns_check_name(writer_view(&w), NULL) == 0 && writer_terminate(&w)[0] != '\0')
            return true;
    }
    if (lookup->was_asked_as_it_is)
        return false;
    lookup->was_asked_as_it_is = true;
    return str_copy(name, lookup->asked, sizeof lookup->asked);
}

static void ask_for_form(struct dns_lookup *lookup, int64_t now_ms)
{
    for (size_t i = 0; i < DNS_EXCHANGES; i++) /* what is still to be closed, is */
        lookup->exchanges[i] = (struct dns_exchange){.todo = lookup->exchanges[i].todo};
    for (size_t i = 0; i < DNS_QUESTIONS; i++) {
        lookup->questions[i] = (struct dns_question){.type = i == QUESTION_A ? DNS_TYPE_A : DNS_TYPE_AAAA,
                                                     .is_open = true,
                                                     .silence_ms = DNS_FIRST_SILENCE_MS};
        ask_next(lookup, i, true, now_ms);
    }
    lookup->settle_ms = INT64_MAX;
}

void dns_lookup_start(struct dns_lookup *lookup, const struct dns_config *config, struct str name,
                      int64_t now_ms)
{
    *lookup = (struct dns_lookup){.config = *config};
    str_copy(name, lookup->name, sizeof lookup->name);
    if (is_asked_as_it_is(name, config->ndots))
        lookup->search_at = config->search_len;
    next_form(lookup);
    ask_for_form(lookup, now_ms);
}

/* --- outcomes ----------------------------------------------------------------------------------------- */

static void add_addresses(struct dns_result *result, const struct dns_result *from)
{
    for (size_t i = 0; i < from->count; i++)
        result->addresses[result->count++] = from->addresses[i];
}

/* What two questions without addresses mean together. That a name does not exist holds for both types, but
 * some servers say so of AAAA only, and mean "no addresses": the one for A decides. */
static const struct dns_result *failure_of(const struct dns_result *a, const struct dns_result *aaaa)
{
    return a->outcome != DNS_NO_ADDRESSES || aaaa->outcome == DNS_NO_NAME ? a : aaaa;
}

static void end_form(struct dns_lookup *lookup, int64_t now_ms)
{
    const struct dns_result *a = &lookup->questions[QUESTION_A].result;
    const struct dns_result *aaaa = &lookup->questions[QUESTION_AAAA].result;
    lookup->result = *failure_of(a, aaaa);
    lookup->result.count = 0;
    if (a->count + aaaa->count > 0) {
        lookup->result.outcome = DNS_FOUND;
        add_addresses(&lookup->result, aaaa);
        add_addresses(&lookup->result, a);
    }
    bool is_negative = lookup->result.outcome == DNS_NO_NAME || lookup->result.outcome == DNS_NO_ADDRESSES;
    lookup->exists = lookup->exists || lookup->result.outcome == DNS_NO_ADDRESSES;
    if (is_negative && next_form(lookup)) {
        ask_for_form(lookup, now_ms);
        return;
    }
    if (is_negative && lookup->exists)
        lookup->result.outcome = DNS_NO_ADDRESSES;
    lookup->is_done = true;
}

/* The question's result is there; when both are, that of the form. */
static void end_question(struct dns_lookup *lookup, size_t question, int64_t now_ms)
{
    struct dns_question *q = &lookup->questions[question];
    q->is_open = false;
    for (size_t server = 0; server < DNS_SERVERS_MAX; server++)
        close_exchange(exchange_of(lookup, question, server));
    if (!lookup->questions[!question].is_open)
        end_form(lookup, now_ms);
    else if (q->result.count > 0)
        lookup->settle_ms =
            num_add_ms(now_ms, question == QUESTION_A ? DNS_WAIT_FOR_IPV6_MS : DNS_WAIT_FOR_IPV4_MS);
}

static bool is_waiting(struct dns_lookup *lookup, size_t question)
{
    for (size_t server = 0; server < DNS_SERVERS_MAX; server++)
        if (is_open(exchange_of(lookup, question, server)))
            return true;
    return false;
}

/* A server is of no use for this question. */
static void give_up_server(struct dns_lookup *lookup, unsigned exchange, enum dns_outcome outcome, int detail,
                           int64_t now_ms)
{
    size_t question = exchange / DNS_SERVERS_MAX;
    size_t server = exchange % DNS_SERVERS_MAX;
    struct dns_result *result = &lookup->questions[question].result;
    result->outcome = outcome;
    result->detail = detail;
    result->server = lookup->config.servers[server];
    close_exchange(&lookup->exchanges[exchange]);
    bool has_some = result->count > 0; /* of a truncated answer */
    if (!has_some && (ask_next(lookup, question, true, now_ms) || is_waiting(lookup, question)))
        return;
    end_question(lookup, question, now_ms);
}

static void ask_over_tcp(struct dns_lookup *lookup, unsigned exchange, int64_t now_ms)
{
    lookup->exchanges[exchange] =
        (struct dns_exchange){.state = DNS_EXCHANGE_TCP, .todo = DNS_STEP_OPEN, .is_plain = true};
    lookup->questions[exchange / DNS_SERVERS_MAX].due_ms = num_add_ms(now_ms, lookup->config.timeout_ms);
}

static void take_answer(struct dns_lookup *lookup, unsigned exchange, const struct dns_answer *answer,
                        int64_t now_ms)
{
    bool over_tcp = lookup->exchanges[exchange].state == DNS_EXCHANGE_TCP;
    struct dns_result *result = &lookup->questions[exchange / DNS_SERVERS_MAX].result;
    memcpy(result->addresses, answer->addresses, sizeof answer->addresses);
    result->count = answer->count;
    if (answer->is_truncated && !over_tcp && answer->count < DNS_ADDRESSES_MAX) {
        ask_over_tcp(lookup, exchange, now_ms);
    } else if (answer->is_truncated && answer->count == 0) {
        give_up_server(lookup, exchange, DNS_FAILED, DNS_CODE_OK, now_ms);
    } else {
        result->outcome = answer->code == DNS_CODE_NO_NAME ? DNS_NO_NAME : DNS_NO_ADDRESSES;
        end_question(lookup, exchange / DNS_SERVERS_MAX, now_ms);
    }
}

/* --- the caller's side -------------------------------------------------------------------------------- */

void dns_lookup_received(struct dns_lookup *lookup, unsigned exchange, const uint8_t *bytes, size_t len,
                         int64_t now_ms)
{
    struct dns_exchange *x = &lookup->exchanges[exchange];
    enum dns_type type = lookup->questions[exchange / DNS_SERVERS_MAX].type;
    struct dns_answer answer;
    if (!is_open(x) || !x->has_id)
        return;
    if (!dns_parse_answer(&answer, bytes, len, x->id, str_from(lookup->asked), type)) {
        if (x->state == DNS_EXCHANGE_TCP) /* only that server can have sent it */
            give_up_server(lookup, exchange, DNS_FAILED, DNS_CODE_OK, now_ms);
    } else if (answer.code == DNS_CODE_OK || answer.code == DNS_CODE_NO_NAME) {
        take_answer(lookup, exchange, &answer, now_ms);
    } else if ((answer.code == DNS_CODE_MALFORMED || answer.code == DNS_CODE_UNKNOWN) && !x->is_plain) {
        x->is_plain = true; /* it does not know OPT */
        x->todo = DNS_STEP_SEND;
    } else {
        give_up_server(lookup, exchange, DNS_FAILED, (int) answer.code, now_ms);
    }
}

void dns_lookup_broke(struct dns_lookup *lookup, unsigned exchange, int system_error, int64_t now_ms)
{
    if (is_open(&lookup->exchanges[exchange]))
        give_up_server(lookup, exchange, DNS_UNREACHABLE, system_error, now_ms);
}

static void silence_is_over(struct dns_lookup *lookup, size_t question, int64_t now_ms)
{
    struct dns_question *q = &lookup->questions[question];
    for (size_t server = 0; server < DNS_SERVERS_MAX;
         server++) /* a connection that stalls is not asked again */
        if (exchange_of(lookup, question, server)->state == DNS_EXCHANGE_TCP)
            close_exchange(exchange_of(lookup, question, server));
    if (q->result.count > 0 || !may_ask_again(lookup, q) || !ask_next(lookup, question, false, now_ms))
        end_question(lookup, question, now_ms);
}

void dns_lookup_tick(struct dns_lookup *lookup, int64_t now_ms)
{
    for (size_t i = 0; i < DNS_QUESTIONS; i++) {
        struct dns_question *q = &lookup->questions[i];
        if (q->is_open && lookup->settle_ms <= now_ms)
            end_question(lookup, i, now_ms);
        else if (q->is_open && q->due_ms <= now_ms)
            silence_is_over(lookup, i, now_ms);
    }
}

int64_t dns_lookup_deadline(const struct dns_lookup *lookup)
{
    int64_t deadline_ms = lookup->is_done ? INT64_MAX : lookup->settle_ms;
    for (size_t i = 0; i < DNS_QUESTIONS; i++)
        if (lookup->questions[i].is_open)
            deadline_ms = num_min_i64(deadline_ms, lookup->questions[i].due_ms);
    return deadline_ms;
}

void dns_lookup_next(struct dns_lookup *lookup, struct dns_step *step)
{
    *step = (struct dns_step){.type = lookup->is_done ? DNS_STEP_DONE : DNS_STEP_NONE};
    for (unsigned i = 0; i < DNS_EXCHANGES; i++) {
        struct dns_exchange *x = &lookup->exchanges[i];
        if (x->todo != DNS_STEP_NONE) {
            *step = (struct dns_step){.type = x->todo,
                                      .exchange = i,
                                      .server = lookup->config.servers[i % DNS_SERVERS_MAX],
                                      .over_tcp = x->state == DNS_EXCHANGE_TCP};
            x->todo = DNS_STEP_NONE;
            return;
        }
    }
}

void dns_lookup_query(struct dns_lookup *lookup, unsigned exchange, uint16_t random, struct writer *w)
{
    struct dns_exchange *x = &lookup->exchanges[exchange];
    if (!x->has_id)
        x->id = random;
    x->has_id = true;
    dns_write_query(w, x->id, str_from(lookup->asked), lookup->questions[exchange / DNS_SERVERS_MAX].type,
                    !x->is_plain);
}

static int explain_code(const struct dns_result *result, const char *server, struct error *err)
{
    switch (result->detail) {
    case DNS_CODE_OK:
        return error_set(err, ERROR_UNAVAILABLE, "name server %s gave a malformed answer", server);
    case DNS_CODE_FAILED:
        return error_set(err, ERROR_UNAVAILABLE, "name server %s failed (SERVFAIL)", server);
    case DNS_CODE_REFUSED:
        return error_set(err, ERROR_UNAVAILABLE, "name server %s refused to answer (REFUSED)", server);
    default:
        return error_set(err, ERROR_UNAVAILABLE, "name server %s failed (code %d)", server, result->detail);
    }
}

int dns_result_explain(const struct dns_result *result, struct error *err)
{
    char text[IP_TEXT_SIZE];
    struct writer server = writer_of(text, sizeof text);
    writer_ip(&server, result->server);
    switch (result->outcome) {
    case DNS_FOUND:
        break;
    case DNS_NO_NAME:
        return error_set(err, ERROR_NOT_FOUND, "no such name");
    case DNS_NO_ADDRESSES:
        return error_set(err, ERROR_NOT_FOUND, "the name has no addresses");
    case DNS_SILENT:
        return error_set(err, ERROR_UNAVAILABLE, "no name server gave an answer");
    case DNS_FAILED:
        return explain_code(result, writer_terminate(&server), err);
    case DNS_UNREACHABLE:
        return error_set(err, ERROR_UNAVAILABLE, "name server %s can't be asked: %s",
                         writer_terminate(&server), strerror(result->detail));
    }
    return 0;
}
