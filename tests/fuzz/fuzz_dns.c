/*
 * What name servers send, through a whole lookup: the input says which step comes next and has the bytes that
 * are received. Whatever they are, the lookup ends within the time that its servers, attempts and forms of
 * the name allow, sends no more than they allow, and has no more addresses than its bound.
 */
#include "wire/dns_lookup.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

enum { FORMS = 3, ATTEMPTS = 2, TIMEOUT_MS = 1000, STEPS_MAX = 10000 };

static const char resolv_conf[] = "nameserver 10.0.0.2\nnameserver fd00::2\nnameserver 10.0.0.3\n"
                                  "search a.example b.example\noptions timeout:1\n";

struct run {
    struct dns_lookup lookup;
    uint16_t ids[DNS_EXCHANGES];
    bool has_socket[DNS_EXCHANGES];
    int sent;
    int64_t now_ms;
};

/* Does what the lookup wants; false once it is done. */
static bool drain(struct run *run)
{
    struct dns_step step;
    for (int steps = 0;; steps++) {
        require(steps < STEPS_MAX);
        dns_lookup_next(&run->lookup, &step);
        if (step.type == DNS_STEP_NONE || step.type == DNS_STEP_DONE)
            return step.type == DNS_STEP_NONE;
        require(step.exchange < DNS_EXCHANGES);
        if (step.type == DNS_STEP_CLOSE) {
            run->has_socket[step.exchange] = false;
            continue;
        }
        uint8_t bytes[DNS_QUERY_MAX];
        struct writer query = writer_of(bytes, sizeof bytes);
        require(step.type == DNS_STEP_OPEN || run->has_socket[step.exchange]);
        dns_lookup_query(&run->lookup, step.exchange, (uint16_t) run->sent, &query);
        require(!query.failed);
        run->ids[step.exchange] = (uint16_t) (bytes[0] << 8 | bytes[1]);
        run->has_socket[step.exchange] = true;
        run->sent++;
    }
}

/* The bytes of the input as an answer: as they are, or behind the header and question that were asked for. */
static void receive(struct run *run, unsigned exchange, bool as_they_are, const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + DNS_QUERY_MAX);
    struct writer w = writer_of(bytes, size + DNS_QUERY_MAX);
    if (!as_they_are && size >= 4) {
        enum dns_type type = run->lookup.questions[exchange / DNS_SERVERS_MAX].type;
        dns_write_query(&w, run->ids[exchange], str_from(run->lookup.asked), type, false);
        bytes[2] = data[0] | 0x80;
        bytes[3] = data[1];
        bytes[6] = data[2];
        bytes[7] = data[3];
        data += 4;
        size -= 4;
    }
    writer_bytes(&w, data, size);
    uint8_t *exact = malloc(w.len); /* so that reading behind it is noticed */
    if (exact != NULL && w.len > 0)
        memcpy(exact, bytes, w.len);
    dns_lookup_received(&run->lookup, exchange, exact, w.len, run->now_ms);
    free(exact);
    free(bytes);
}

static void step(struct run *run, uint8_t what, const uint8_t *data, size_t size)
{
    unsigned exchange = what % DNS_EXCHANGES;
    switch (what / DNS_EXCHANGES % 4) {
    case 0:
        run->now_ms = dns_lookup_deadline(&run->lookup);
        dns_lookup_tick(&run->lookup, run->now_ms);
        break;
    case 1:
        dns_lookup_broke(&run->lookup, exchange, what, run->now_ms);
        break;
    default:
        receive(run, exchange, what / DNS_EXCHANGES % 4 == 2, data, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct dns_config config;
    memset(&run, 0, sizeof run);
    dns_config_parse(&config, str_from(resolv_conf));
    dns_lookup_start(&run.lookup, &config, STR_LITERAL("db"), 0);
    struct reader r = reader_of(data, size);
    while (drain(&run) && r.left > 0) {
        uint8_t what = reader_u8(&r);
        size_t len = reader_u16be(&r);
        len = len < r.left ? len : r.left;
        step(&run, what, reader_bytes(&r, len), len);
    }
    while (drain(&run)) { /* silence from now on */
        require(dns_lookup_deadline(&run.lookup) < INT64_MAX);
        run.now_ms = dns_lookup_deadline(&run.lookup);
        dns_lookup_tick(&run.lookup, run.now_ms);
    }
    /* A truncated answer is asked for once more over TCP, one that knows no OPT once more without: at most
     * three times as many as there are attempts. */
    require(run.sent <= FORMS * DNS_EXCHANGES * ATTEMPTS * 3);
    require(run.now_ms <= (int64_t) FORMS * DNS_SERVERS_MAX * (ATTEMPTS + 1) * TIMEOUT_MS);
    require(run.lookup.result.count <= DNS_RESULT_ADDRESSES_MAX);
    struct error err = ERROR_INIT;
    bool is_found = dns_result_explain(&run.lookup.result, &err) == 0;
    require(is_found == (run.lookup.result.count > 0) && is_found == (err.text[0] == '\0'));
    return 0;
}
