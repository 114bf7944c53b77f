#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int number;
    struct list node;
};

enum { ITEMS = 4 };

static struct item items[ITEMS];

static void begin(struct list *head, int count)
{
    list_init(head);
    for (int i = 0; i < count; i++) {
        items[i] = (struct item){.number = i + 1};
        assert_false(list_is_linked(&items[i].node));
        list_append(head, &items[i].node);
        assert_true(list_is_linked(&items[i].node));
    }
}

/* Takes everything off; the numbers as the digits of one. */
static int take_all(struct list *head)
{
    struct list *node;
    int numbers = 0;
    while ((node = list_take(head)) != NULL) {
        assert_false(list_is_linked(node));
        numbers = 10 * numbers + LIST_OWNER(node, struct item, node)->number;
    }
    assert_true(list_is_empty(head));
    return numbers;
}

static void keeps_the_order(void **state)
{
    struct list head;
    (void) state;
    begin(&head, 0);
    assert_true(list_is_empty(&head));
    assert_null(list_take(&head));
    begin(&head, 4);
    assert_false(list_is_empty(&head));
    assert_int_equal(take_all(&head), 1234);
    list_append(&head, &items[2].node);
    assert_int_equal(take_all(&head), 3);
}

static void removes_from_anywhere(void **state)
{
    static const int left[ITEMS] = {234, 134, 124, 123};
    struct list head;
    (void) state;
    for (int i = 0; i < ITEMS; i++) {
        begin(&head, 4);
        list_remove(&items[i].node);
        list_remove(&items[i].node);
        assert_false(list_is_linked(&items[i].node));
        assert_int_equal(take_all(&head), left[i]);
    }
    begin(&head, 1);
    list_remove(&items[0].node);
    assert_true(list_is_empty(&head));
}

static void moves_whole_lists(void **state)
{
    struct list head, other;
    (void) state;
    begin(&head, 4);
    list_init(&other);
    list_move(&other, &head);
    assert_true(list_is_empty(&head));
    list_remove(&items[1].node); /* it knows the list it is in now */
    assert_int_equal(take_all(&other), 134);
    begin(&head, 2);
    items[2] = (struct item){.number = 3};
    list_append(&other, &items[2].node);
    list_move(&head, &other);
    assert_true(list_is_empty(&other));
    list_move(&head, &other);
    assert_int_equal(take_all(&head), 123);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order),
        cmocka_unit_test(removes_from_anywhere),
        cmocka_unit_test(moves_whole_lists),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
