/*
 * list.h - an intrusive, doubly linked ring: no allocation, removal in constant time.
 *
 * The head is a struct cg_list of its own. A node that is in no list points to itself, so that
 * removing it again does nothing. One thread at a time.
 */
#ifndef CELLGATE_LIST_H
#define CELLGATE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct cg_list {
    struct cg_list *prev, *next;
};

/* For heads and for nodes. */
static inline void cg_list_init(struct cg_list *list)
{
    list->prev = list->next = list;
}

static inline bool cg_list_is_empty(const struct cg_list *head)
{
    return head->next == head;
}

/* For nodes: whether it is in a list. */
static inline bool cg_list_is_linked(const struct cg_list *node)
{
    return node->next != node;
}

static inline void cg_list_append(struct cg_list *head, struct cg_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void cg_list_remove(struct cg_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    cg_list_init(node);
}

/* The memory of a linked node has moved (realloc): tells its neighbours. */
static inline void cg_list_moved(struct cg_list *node)
{
    node->prev->next = node;
    node->next->prev = node;
}

/* The struct of `type` whose member is the node. */
#define CG_LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
