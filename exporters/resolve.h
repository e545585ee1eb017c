/*
 * resolve.h - after a name could not be resolved: is it unknown, or is the resolver in trouble?
 *
 * The HTTP library reports both alike, but the first is configuration trouble and the second goes
 * away by itself. So the question is asked once more, where the resolver's own answer can be seen.
 */
#ifndef CELLGATE_EXPORTERS_RESOLVE_H
#define CELLGATE_EXPORTERS_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

/* What a resolver says of a name. */
enum cg_resolved {
    CG_RESOLVED_KNOWN,   /* it has an address */
    CG_RESOLVED_UNKNOWN, /* there is no such name, or it has no address */
    CG_RESOLVED_NOT_NOW, /* trouble, silence, or the wait was cut short */
};

/* Asks, and waits as cg_resolve_is_unknown does. */
enum cg_resolved cg_resolve(const char *host, int cancel_fd, int timeout_ms);

/*
 * True only if the resolver says within the time that there is no such name, or that it has no
 * address. Everything else, above all silence, is "perhaps later", and so false; so is a wait cut
 * short because *cancel_fd became readable. Waits at most timeout_ms; a resolver that hangs longer
 * keeps a thread of its own, not the caller's.
 */
bool cg_resolve_is_unknown(const char *host, int cancel_fd, int timeout_ms);

#endif
