/*
 * Random lives of a destination, each from a seed: healthy, honest about poison and size, down in
 * one way or another, or refusing everything in one way or another. Meanwhile events arrive, grow
 * too old, and are taken away by the spool. Whatever happens,
 *
 *  - each event ends in exactly one way that has a name: delivered, refused for its own sake, too
 *    old, or given up by the spool;
 *  - a destination that refuses everything convicts nobody, but for CG_PLAN_CONVICTIONS_MAX events
 *    on the strength of what it accepted while the first of them was under suspicion already;
 *  - the order is kept, but for single events that are tried ahead of one under suspicion;
 *  - once it is healthy everything goes out in a bounded number of requests.
 */
#include "unit/delivery/plan_world.h"

#include <stdio.h>

enum { SEEDS = 80, TURNS = 30, EVENTS = 900 };

enum mood { HONEST, DOWN, FAILING, LOCKED, REFUSING, REFUSING_SIZE, MOODS };

struct life {
    struct world world;
    enum mood mood;
    uint64_t refusing_phases;
    uint64_t dead_while_refusing; /* in this phase */
};

static struct life life;

static void answer_by_mood(struct world *world, const struct cg_batch *slice,
                           struct cg_verdict *ret_verdict)
{
    switch (life.mood) {
    case HONEST:
    case MOODS:
        judge_honestly(world, slice, ret_verdict);
        return;
    case DOWN:
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        ret_verdict->retry_after_ns = cg_jitter_upto(&world->dice, 1) * 77;
        return;
    case FAILING:
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        ret_verdict->suspicious_when_repeated = true;
        return;
    case LOCKED:
        ret_verdict->kind = CG_VERDICT_CONFIG;
        return;
    case REFUSING:
        ret_verdict->kind = CG_VERDICT_SUSPECT;
        return;
    case REFUSING_SIZE:
        ret_verdict->kind = CG_VERDICT_TOO_LARGE;
        return;
    }
}

static uint64_t innocent_dead(const struct world *world)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < world->there; i++) {
        count += world->dead[i] && !world->poison[i];
    }
    return count;
}

/* Has everything below the head ended in one way, and nothing above it? (Asserting each would take
 * minutes: every assertion of Check's is a write.) */
static void assert_named(const struct world *world)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < world->there; i++) {
        unsigned ends = (world->delivered[i] > 0) + world->dead[i] + world->expired[i];
        bool named = i < world->head ? ends == 1 || (ends == 0 && world->lost[i])
                                     : !world->dead[i] && !world->expired[i];
        wrong += !named || (world->delivered[i] > 1 && world->jumps == 0);
    }
    ck_assert_uint_eq(wrong, 0);
}

static void begin_life(unsigned seed)
{
    struct world *world = &life.world;
    life.mood = HONEST;
    make_world(world, 0, answer_by_mood);
    cg_jitter_init(&world->dice, seed);
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_SUSPECT, CG_VERDICT_TOO_LARGE,
                                                 CG_VERDICT_BACKOFF};
    world->poison_kind = kinds[cg_jitter_upto(&world->dice, 2)];
    world->plan.limits.batch_events = 1 + cg_jitter_upto(&world->dice, 199);
    world->bytes_max = 2000 + cg_jitter_upto(&world->dice, 60000);
    uint64_t one_in = 2 + cg_jitter_upto(&world->dice, 300);
    for (uint64_t i = 0; i < EVENTS; i++) {
        world->events[i].bytes.len = 1 + cg_jitter_upto(&world->dice, 1500);
        world->poison[i] = cg_jitter_upto(&world->dice, one_in) == 0;
    }
    life.refusing_phases = 0;
}

/* Something happens to the world, and then some requests are made. */
static void turn(bool jumps)
{
    struct world *world = &life.world;
    uint64_t dead_before = innocent_dead(world);
    life.mood = (enum mood)cg_jitter_upto(&world->dice, MOODS);
    world->there += cg_jitter_upto(&world->dice, EVENTS / TURNS);
    if (cg_jitter_upto(&world->dice, 4) == 0 && world->window.count > 0) {
        give_up(world, cg_jitter_upto(&world->dice, world->window.count));
    }
    if (jumps && cg_jitter_upto(&world->dice, 9) == 0) {
        jump(world, world->head + cg_jitter_upto(&world->dice, world->there - world->head));
    }
    run(world, cg_jitter_upto(&world->dice, 150));
    assert_named(world);
    if (life.mood == REFUSING || life.mood == REFUSING_SIZE) {
        life.refusing_phases++;
        ck_assert_uint_le(innocent_dead(world) - dead_before, CG_PLAN_CONVICTIONS_MAX);
    } else {
        /* One that failed long enough alone, saw a neighbour accepted, and met the next outage. */
        ck_assert_uint_le(innocent_dead(world) - dead_before, life.mood == FAILING ? 1 : 0);
    }
}

START_TEST(every_event_ends_in_one_way_that_has_a_name)
{
    struct world *world = &life.world;
    uint64_t delivered = 0, dead = 0, expired = 0, innocent = 0, phases = 0, ahead = 0;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        begin_life(seed * 2 + (unsigned)_i);
        for (unsigned i = 0; i < TURNS; i++) {
            turn(_i == 1);
        }
        life.mood = HONEST;
        /* Suspects at the end of the backlog wait for company that shows the destination healthy.
         */
        for (unsigned i = 0; i < CG_PLAN_WINDOW_EVENTS && (i == 0 || world->head < world->there);
             i++) {
            world->poison[world->there] = false;
            world->there++;
            run(world, 5 * EVENTS);
        }
        ck_assert_uint_eq(world->head, world->there);
        assert_named(world);
        if (_i == 0) {
            ck_assert_uint_le(world->order_broken, 64 * world->ahead);
        }
        delivered += world->delivered_count;
        dead += world->dead_count;
        expired += world->expired_count;
        innocent += innocent_dead(world);
        phases += life.refusing_phases;
        ahead += world->ahead;
    }
    printf("delivered %llu, dead %llu (innocent %llu in %llu phases that refused everything), "
           "too old %llu, ahead of their turn %llu, unaccounted 0\n",
           (unsigned long long)delivered, (unsigned long long)dead, (unsigned long long)innocent,
           (unsigned long long)phases, (unsigned long long)expired, (unsigned long long)ahead);
}
END_TEST

/* However long it lasts, and whatever was accepted before. */
START_TEST(a_destination_that_refuses_everything_cannot_empty_the_spool)
{
    static const enum mood moods[] = {REFUSING, REFUSING_SIZE, LOCKED, DOWN, FAILING};
    struct world *world = &life.world;
    for (unsigned seed = 0; seed < 25; seed++) {
        begin_life(seed);
        memset(world->poison, 0, sizeof(world->poison));
        world->there = EVENTS;
        run(world, cg_jitter_upto(&world->dice, 30)); /* healthy so far */
        uint64_t head = world->head;
        life.mood = moods[_i];
        run(world, 1500);
        ck_assert_uint_eq(world->dead_count, 0);
        ck_assert_uint_eq(world->head, head);
        life.mood = HONEST;
        run(world, 40 * EVENTS);
        assert_all_accounted(world);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan_model");
    TCase *tests = tcase_create("plan_model");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, every_event_ends_in_one_way_that_has_a_name, 0, 2);
    tcase_add_loop_test(tests, a_destination_that_refuses_everything_cannot_empty_the_spool, 0, 5);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
