/*
 * list: a doubly linked list whose nodes are members of the caller's structures, so that nothing is
 * allocated. The head is a node, too: a ring.
 *
 *     head ⇄ first ⇄ … ⇄ last ⇄ head
 *
 * A zeroed node is in no list. list_remove needs no head: a node leaves whatever list it is in, so callbacks
 * may remove and release any node, themselves included, as long as the caller takes nodes off the front
 * (list_take) and keeps no pointer to the next one.
 */
#ifndef FUMIDAI_BASE_LIST_H
#define FUMIDAI_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next; /* null: in no list */
    struct list *previous;
};

#define LIST_OWNER(node, type, member) ((type *) (void *) ((char *) (node) -offsetof(type, member)))

void list_init(struct list *head); /* empty */
bool list_is_empty(const struct list *head);
bool list_is_linked(const struct list *node); /* in a list */
void list_append(struct list *head, struct list *node);
void list_remove(struct list *node);       /* twice does no harm */
struct list *list_take(struct list *head); /* removes the first node; null when there is none */
/* Puts all of `from`, in order, behind what is in `head`; `from` is empty then. */
void list_move(struct list *head, struct list *from);

#endif
