/* pulse.c - do the threads that guests depend on still turn? */
#include "gateway_state.h"

bool cg_gateway_turns(struct cg_gateway *gateway, const char **ret_stuck)
{
    struct cg_pulse *pulse = &gateway->pulse;
    struct cg_pulse now = {.poked = true};
    const unsigned ingress = cg_ingress_turns(gateway->ingress, now.turns);
    now.turns[ingress] = cg_spool_turns(gateway->spool);
    for (unsigned i = 0; i <= ingress && pulse->poked; i++) {
        if (now.turns[i] == pulse->turns[i]) {
            *ret_stuck = i == ingress ? "spool" : i == ingress - 1 ? "acceptor" : "ingress";
            return false; /* it has been poked already */
        }
    }
    *pulse = now;
    cg_ingress_poke(gateway->ingress);
    cg_spool_poke(gateway->spool);
    return true;
}
