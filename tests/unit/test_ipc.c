#include "wire/ipc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

enum { STARTED_MS = 1000, NOW_MS = 5000 };

static struct ipc_status good_status(void)
{
    struct ipc_status status;
    memset(&status, 0, sizeof status);
    status.answers = 7;
    status.control = IPC_CONTROL_OPEN;
    status.open_sessions = 2;
    status.busy = 1;
    status.total_sessions = 3;
    status.last_activity_ms = 4000;
    status.control_since_ms = 2000;
    strcpy(status.trouble, "Zeit\xC3\xBC"
                           "berschreitung");
    strcpy(status.session, "user-0a1b");
    return status;
}

/* Reads it from memory that ends at an unmapped page. */
static bool read_status(struct ipc_status *out, const void *message, size_t len)
{
    void *copy = guard_copy(message, len);
    bool result = ipc_read_status(out, copy, len, STARTED_MS, NOW_MS);
    guard_free(copy, len);
    return result;
}

static void a_good_status_is_read_as_it_is(void **state)
{
    struct ipc_status in = good_status(), out;
    (void) state;
    assert_true(read_status(&out, &in, sizeof in));
    assert_memory_equal(&out, &in, sizeof in);
}

static void another_size_is_no_status(void **state)
{
    struct ipc_status in[2] = {good_status(), good_status()}, out;
    (void) state;
    for (size_t len = 0; len < sizeof in; len++)
        assert_int_equal(read_status(&out, in, len), len == sizeof out);
}

/* Each value of each byte of the fields that have few good ones. */
static void flags_and_enums_have_no_other_values(void **state)
{
    (void) state;
    for (int value = 0; value < 256; value++) {
        struct ipc_status in[5], out;
        for (int i = 0; i < 5; i++)
            in[i] = good_status();
        in[0].in_use = in[1].busy = in[2].admission_closed = in[3].session_over = (uint8_t) value;
        in[4].control = (uint32_t) value;
        for (int i = 0; i < 5; i++)
            assert_int_equal(read_status(&out, &in[i], sizeof in[i]), value <= 1);
    }
    struct ipc_status in = good_status(), out;
    in.control = UINT32_MAX; /* negative, where an enum is signed */
    assert_false(read_status(&out, &in, sizeof in));
}

static void counts_are_plausible(void **state)
{
    struct ipc_status in = good_status(), out;
    (void) state;
    in.open_sessions = IPC_OPEN_SESSIONS_MAX;
    in.total_sessions = IPC_TOTAL_SESSIONS_MAX;
    assert_true(read_status(&out, &in, sizeof in));
    in.open_sessions++;
    assert_false(read_status(&out, &in, sizeof in));
    in.open_sessions = UINT32_MAX;
    assert_false(read_status(&out, &in, sizeof in));
    in = good_status();
    in.total_sessions = IPC_TOTAL_SESSIONS_MAX + 1;
    assert_false(read_status(&out, &in, sizeof in));
    in.total_sessions = UINT64_MAX;
    assert_false(read_status(&out, &in, sizeof in));
}

static void texts_are_terminated_and_clean(void **state)
{
    static const char bad[] = "\x01\t\n\r\x1B\x1F\x7F";
    struct ipc_status in = good_status(), out;
    (void) state;
    memset(in.trouble, 'x', sizeof in.trouble);
    assert_false(read_status(&out, &in, sizeof in));
    in.trouble[sizeof in.trouble - 1] = '\0';
    assert_true(read_status(&out, &in, sizeof in));
    memset(in.session, 'x', sizeof in.session);
    assert_false(read_status(&out, &in, sizeof in));
    in.session[sizeof in.session - 1] = '\0';
    assert_true(read_status(&out, &in, sizeof in));
    for (size_t i = 0; i + 1 < sizeof bad; i++) {
        in = good_status();
        in.trouble[2] = bad[i];
        assert_false(read_status(&out, &in, sizeof in));
        in = good_status();
        in.session[0] = bad[i];
        assert_false(read_status(&out, &in, sizeof in));
    }
}

static void times_are_moved_to_where_they_are_possible(void **state)
{
    static const struct {
        int64_t sent, read;
    } rows[] = {{STARTED_MS, STARTED_MS}, {STARTED_MS - 1, STARTED_MS}, {0, STARTED_MS},
                {-1, STARTED_MS},         {INT64_MIN + 1, STARTED_MS},  {NOW_MS, NOW_MS},
                {NOW_MS + 1, NOW_MS},     {INT64_MAX, NOW_MS}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ipc_status in = good_status(), out;
        in.last_activity_ms = in.control_since_ms = rows[i].sent;
        assert_true(read_status(&out, &in, sizeof in));
        assert_true(out.last_activity_ms == rows[i].read && out.control_since_ms == rows[i].read);
    }
    struct ipc_status in = good_status(), out;
    in.last_activity_ms = in.control_since_ms = INT64_MIN; /* "none yet", which the second can't be */
    assert_true(read_status(&out, &in, sizeof in));
    assert_true(out.last_activity_ms == INT64_MIN && out.control_since_ms == STARTED_MS);
}

static void texts_are_made_clean(void **state)
{
    static const struct {
        const char *text, *set;
    } rows[] = {{"", ""},
                {"plain", "plain"},
                {"two\nlines\t\x1B[31m", "two?lines??[3"},
                {"\x7F", "?"},
                {"0123456789abcde", "0123456789abc"},
                {"0123456789ab\xC3\xBC", "0123456789ab"}};
    char out[14];
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ipc_set_text(out, sizeof out, str_from(rows[i].text));
        assert_string_equal(out, rows[i].set);
    }
    ipc_set_text(out, sizeof out, (struct str){"a\0b", 3});
    assert_string_equal(out, "a");
}

/* ---- a worker's answer --------------------------------------------------------------------------------- */

static struct ipc_answer good_answer(enum ipc_call_kind kind)
{
    struct ipc_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.kind = (uint32_t) kind;
    answer.server_unix_ms = answer.changed_unix_ms = answer.expires_unix_ms = -1;
    strcpy(answer.cluster, "c");
    strcpy(answer.task_arn, "arn");
    return answer;
}

static bool read_answer(const struct ipc_answer *in, size_t len, enum ipc_call_kind kind)
{
    struct ipc_answer out;
    void *copy = guard_copy(in, len), *read = &out;
    bool result = ipc_read_answer(&out, copy, len, kind);
    assert_true(!result || memcmp(read, copy, sizeof out) == 0);
    guard_free(copy, len);
    return result;
}

static bool is_read(const struct ipc_answer *in)
{
    return read_answer(in, sizeof *in, IPC_TASK_METADATA);
}

static void a_good_answer_is_read_as_it_is(void **state)
{
    (void) state;
    for (unsigned asked = 0; asked < IPC_CALL_COUNT; asked++)
        for (unsigned kind = 0; kind < IPC_CALL_COUNT; kind++) {
            struct ipc_answer in = good_answer((enum ipc_call_kind) kind);
            assert_int_equal(read_answer(&in, sizeof in, (enum ipc_call_kind) asked), kind == asked);
        }
    struct ipc_answer two[2] = {good_answer(IPC_STOP_TASK), good_answer(IPC_STOP_TASK)};
    for (size_t len = 0; len < sizeof two; len++)
        assert_int_equal(read_answer(two, len, IPC_STOP_TASK), len == sizeof two[0]);
}

static void a_result_has_its_reason(void **state)
{
    (void) state;
    for (unsigned result = 0; result < 256; result++)
        for (int error = -12; error < 3; error++)
            for (int has_text = 0; has_text < 2; has_text++) {
                struct ipc_answer in = good_answer(IPC_TASK_METADATA);
                in.result = result;
                in.error = error;
                strcpy(in.text, has_text ? "403" : "");
                bool is_failure = result == IPC_RETRY || result == IPC_FAILED;
                bool is_reason = error < ERROR_NONE && error >= ERROR_UNAVAILABLE && has_text;
                bool good = (result == IPC_DONE && error == ERROR_NONE) || (is_failure && is_reason);
                assert_int_equal(is_read(&in), good);
            }
    struct ipc_answer in = good_answer(IPC_TASK_METADATA);
    in.result = UINT32_MAX;
    assert_false(is_read(&in));
}

static void metadata_names_cluster_and_task(void **state)
{
    struct ipc_answer in = good_answer(IPC_TASK_METADATA);
    (void) state;
    in.cluster[0] = '\0';
    assert_false(is_read(&in));
    in = good_answer(IPC_TASK_METADATA);
    in.task_arn[0] = '\0';
    assert_false(is_read(&in));
    in.kind = IPC_STOP_TASK;
    assert_true(read_answer(&in, sizeof in, IPC_STOP_TASK));
    in = good_answer(IPC_TASK_METADATA);
    in.cluster[0] = '\0';
    in.result = IPC_RETRY;
    in.error = ERROR_TIMEOUT;
    strcpy(in.text, "no answer");
    assert_true(is_read(&in));
}

static void numbers_of_answers_are_plausible(void **state)
{
    static const struct {
        int64_t value;
        bool is_time, is_offset;
    } rows[] = {{0, true, true},
                {-1, true, true},
                {-2, false, true},
                {IPC_UNIX_MS_MAX, true, false},
                {IPC_UNIX_MS_MAX + 1, false, false},
                {IPC_CLOCK_OFFSET_MS_MAX, true, true},
                {IPC_CLOCK_OFFSET_MS_MAX + 1, true, false},
                {-IPC_CLOCK_OFFSET_MS_MAX, false, true},
                {-IPC_CLOCK_OFFSET_MS_MAX - 1, false, false},
                {INT64_MAX, false, false},
                {INT64_MIN, false, false}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ipc_answer in[4];
        for (int k = 0; k < 4; k++)
            in[k] = good_answer(IPC_TASK_METADATA);
        in[0].server_unix_ms = in[1].changed_unix_ms = in[2].expires_unix_ms = rows[i].value;
        in[3].clock_offset_ms = rows[i].value;
        for (int k = 0; k < 3; k++)
            assert_int_equal(is_read(&in[k]), rows[i].is_time);
        assert_int_equal(is_read(&in[3]), rows[i].is_offset);
    }
    for (unsigned value = 0; value < 256; value++) {
        struct ipc_answer in[2] = {good_answer(IPC_TASK_METADATA), good_answer(IPC_TASK_METADATA)};
        in[0].already = in[1].is_protected = (uint8_t) value;
        assert_int_equal(is_read(&in[0]), value <= 1);
        assert_int_equal(is_read(&in[1]), value <= 1);
    }
    struct ipc_answer in = good_answer(IPC_TASK_METADATA);
    in.desired_count = IPC_DESIRED_COUNT_MAX;
    assert_true(is_read(&in));
    in.desired_count++;
    assert_false(is_read(&in));
}

static void texts_of_answers_are_terminated_and_clean(void **state)
{
    static const struct {
        size_t offset, size;
    } texts[] = {{offsetof(struct ipc_answer, text), ERROR_TEXT_SIZE},
                 {offsetof(struct ipc_answer, cluster), IPC_ARN_SIZE},
                 {offsetof(struct ipc_answer, task_arn), IPC_ARN_SIZE},
                 {offsetof(struct ipc_answer, service), IPC_NAME_SIZE},
                 {offsetof(struct ipc_answer, group), IPC_GROUP_SIZE}};
    (void) state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct ipc_answer in = good_answer(IPC_TASK_METADATA);
        char *text = (char *) &in + texts[i].offset;
        memset(text, 'x', texts[i].size);
        assert_false(is_read(&in));
        text[texts[i].size - 1] = '\0';
        assert_true(is_read(&in));
        text[7] = '\n';
        assert_false(is_read(&in));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_status_is_read_as_it_is),
        cmocka_unit_test(another_size_is_no_status),
        cmocka_unit_test(flags_and_enums_have_no_other_values),
        cmocka_unit_test(counts_are_plausible),
        cmocka_unit_test(texts_are_terminated_and_clean),
        cmocka_unit_test(times_are_moved_to_where_they_are_possible),
        cmocka_unit_test(texts_are_made_clean),
        cmocka_unit_test(a_good_answer_is_read_as_it_is),
        cmocka_unit_test(a_result_has_its_reason),
        cmocka_unit_test(metadata_names_cluster_and_task),
        cmocka_unit_test(numbers_of_answers_are_plausible),
        cmocka_unit_test(texts_of_answers_are_terminated_and_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
