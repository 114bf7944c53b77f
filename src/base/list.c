#include "base/list.h"

void list_init(struct list *head)
{
    head->next = head->previous = head;
}

bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

bool list_is_linked(const struct list *node)
{
    return node->next != NULL;
}

void list_append(struct list *head, struct list *node)
{
    node->next = head;
    node->previous = head->previous;
    head->previous->next = node;
    head->previous = node;
}

void list_remove(struct list *node)
{
    if (node->next == NULL)
        return;
    node->previous->next = node->next;
    node->next->previous = node->previous;
    node->next = node->previous = NULL;
}

struct list *list_take(struct list *head)
{
    struct list *first = head->next;
    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

void list_move(struct list *head, struct list *from)
{
    if (list_is_empty(from))
        return;
    head->previous->next = from->next;
    from->next->previous = head->previous;
    from->previous->next = head;
    head->previous = from->previous;
    list_init(from);
}
