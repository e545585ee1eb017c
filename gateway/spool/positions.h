/*
 * positions.h - where each reader stands, as one small file each: <dir>/positions/<name>.
 *
 * A file is replaced as a whole (written under ".<name>", then renamed) and carries a checksum. One
 * that does not verify counts as none: its reader starts again at the oldest record kept, which
 * repeats events and skips none. Stateless; the caller sees to one writer a name.
 */
#ifndef CELLGATE_POSITIONS_H
#define CELLGATE_POSITIONS_H

#include "cellgate/error.h"

#include <stdint.h>

/* The next event to read, and where its record starts. */
struct cg_position {
    uint64_t index;
    uint64_t segment; /* by first index; a hint, as is the offset */
    uint64_t offset;
    uint64_t base; /* bytes of all segments before that one; not saved */
};

/* Letters, digits, '-', '_', '.', not first a '.', at most CG_EXPORTER_NAME_BYTES_MAX. */
bool cg_position_name_valid(const char *name);

/* `durable`: also over a power cut, at the cost of a sync. */
CG_MUST_USE bool cg_position_save(int dir_fd, const char *name, const struct cg_position *position,
                                  bool durable, struct cg_error *err);
enum cg_position_found { CG_POSITION_GOOD, CG_POSITION_NONE, CG_POSITION_DAMAGED };
/* Sets *ret_position for CG_POSITION_GOOD only. */
enum cg_position_found cg_position_load(int dir_fd, const char *name,
                                        struct cg_position *ret_position);
/* The greatest index of any reader that ever was, 0 for none: indices below it were given out. */
uint64_t cg_position_greatest(int dir_fd);

#endif
