"""Queues: water of a unit hydrograph on its way, forward and adjoint, four steps and four places at once."""

from __future__ import annotations

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.loops.rows import copy_row, fill_row, in_fours


def queue_step(following, ordinate, inflow):
    """Move the water of a unit hydrograph one place on and add its share of the inflow."""
    return fma(ordinate, inflow, following)


def queue_step_adjoint(ordinate, inflow, queue_adj):
    """Adjoint of `queue_step`; that of `following` is `queue_adj`. Returns the adjoints of ordinate and inflow."""
    return inflow * queue_adj, ordinate * queue_adj


def ring_length(places, n_steps):
    """Rows of a ring: four more than places, in fours; no more than a few steps need, for rows cost time to make."""
    return in_fours(places) + 4 if n_steps >= 4 else places + n_steps - 1


def advance_queue(ring, head, ordinates, places, Pr, count, share):
    """Take the inflows of one to four steps into a unit hydrograph; the rows from `head` on leave with them.

    ring: rows in fours, four more than places; ordinates: rows in fours, zeros behind the last place; Pr: a row for
    each step. Four steps at once give the same bits as one by one.
    """
    if count == 4:
        advance_queue_four(ring, head, ordinates, Pr, share)
    else:
        for j in range(count):
            advance_queue_one(ring, head + j, ordinates[:places], Pr[j], share)


def advance_queue_one(ring, head, ordinates, Pr, share):
    """Take one step's inflow into a unit hydrograph: the row at `head` leaves now, nothing moves into the last place.

    The loop over cells is here, not in a row function: a call per place would cost as much as the place itself.
    """
    n, last = ring.shape[0], ordinates.shape[0] - 1
    for k in range(last):
        place = head + k if head + k < n else head + k - n
        for i in range(Pr.size):
            ring[place, i] = queue_step(ring[place, i], ordinates[k, i], share * Pr[i])
    place = head + last if head + last < n else head + last - n
    for i in range(Pr.size):
        ring[place, i] = queue_step(0.0, ordinates[last, i], share * Pr[i])


def advance_queue_four(ring, head, ordinates, Pr, share):
    """Take the inflows of four steps into a unit hydrograph, four places at a time.

    That is a third of the loads and stores of step by step. The last places come first: so every row gets its water in
    the order of the steps.
    """
    n, last = ring.shape[0], ordinates.shape[0] - 4
    p0, p1, p2, p3 = Pr[0], Pr[1], Pr[2], Pr[3]
    for k in range(last, -1, -4):
        place = head + k if head + k < n else head + k - n
        later = place + 4 if place + 4 < n else 0
        o0, o1, o2, o3 = ordinates[k], ordinates[k + 1], ordinates[k + 2], ordinates[k + 3]
        q0, q1, q2, q3 = ring[place], ring[place + 1], ring[place + 2], ring[place + 3]
        q4, q5, q6 = ring[later], ring[later + 1], ring[later + 2]
        if k == last:
            for i in range(p0.size):
                q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i] = four_inflows(
                    q0[i], q1[i], q2[i], 0.0, 0.0, 0.0, 0.0, o0[i], o1[i], o2[i], o3[i],
                    share * p0[i], share * p1[i], share * p2[i], share * p3[i],
                )
        else:
            for i in range(p0.size):
                q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i] = four_inflows(
                    q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i], o0[i], o1[i], o2[i], o3[i],
                    share * p0[i], share * p1[i], share * p2[i], share * p3[i],
                )


def four_inflows(q0, q1, q2, q3, q4, q5, q6, o0, o1, o2, o3, a, b, c, d):
    """Add what the inflows a to d of four steps, the first first, leave in seven rows through four ordinates."""
    q0 = queue_step(q0, o0, a)
    q1 = queue_step(queue_step(q1, o1, a), o0, b)
    q2 = queue_step(queue_step(queue_step(q2, o2, a), o1, b), o0, c)
    q3 = queue_step(queue_step(queue_step(queue_step(q3, o3, a), o2, b), o1, c), o0, d)
    q4 = queue_step(queue_step(queue_step(q4, o3, b), o2, c), o1, d)
    q5 = queue_step(queue_step(q5, o3, c), o2, d)
    return q0, q1, q2, q3, q4, q5, queue_step(q6, o3, d)


def unroll_queue(ring, head, queue, lo, hi):
    """Write a tile's ring back as a queue: the row that leaves next comes first, the one that left is empty."""
    n = ring.shape[0]
    for k in range(queue.shape[0] - 1):
        place = head + k
        copy_row(ring[place if place < n else place - n, : hi - lo], queue[k, lo:hi])
    fill_row(queue[queue.shape[0] - 1, lo:hi], 0.0)


def sweep_queue(flow_adj, ordinates, share, Pr_adj):
    """Adjoint of `advance_queue` in the inflows of four steps, four places at a time: Pr_adj, four rows, is added to.

    flow_adj: adjoints of the outflows from the first of the steps on.
    """
    p0, p1, p2, p3 = Pr_adj[0], Pr_adj[1], Pr_adj[2], Pr_adj[3]
    for k in range(0, ordinates.shape[0], 4):
        o0, o1, o2, o3 = ordinates[k], ordinates[k + 1], ordinates[k + 2], ordinates[k + 3]
        q0, q1, q2, q3 = flow_adj[k], flow_adj[k + 1], flow_adj[k + 2], flow_adj[k + 3]
        q4, q5, q6 = flow_adj[k + 4], flow_adj[k + 5], flow_adj[k + 6]
        for i in range(p0.size):
            a, b, c, d = o0[i], o1[i], o2[i], o3[i]
            f0, f1, f2, f3, f4, f5, f6 = q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i]
            p0[i] = four_places(p0[i], share, a, b, c, d, f0, f1, f2, f3)
            p1[i] = four_places(p1[i], share, a, b, c, d, f1, f2, f3, f4)
            p2[i] = four_places(p2[i], share, a, b, c, d, f2, f3, f4, f5)
            p3[i] = four_places(p3[i], share, a, b, c, d, f3, f4, f5, f6)


def four_places(total, share, a, b, c, d, a_adj, b_adj, c_adj, d_adj):
    """Add what the ordinates a to d of four places, the first first, are to the adjoint of an inflow."""
    total += share * queue_step_adjoint(a, a_adj, a_adj)[1]
    total += share * queue_step_adjoint(b, b_adj, b_adj)[1]
    total += share * queue_step_adjoint(c, c_adj, c_adj)[1]
    return total + share * queue_step_adjoint(d, d_adj, d_adj)[1]


def sum_ordinates(flow_adj, Pr, share, ordinates_adj):
    """Adjoint of `advance_queue` in its ordinates, added to: four places and four steps at once.

    flow_adj: adjoints of the outflows from the first of the steps on; Pr: a row for each step.
    """
    p0, p1, p2, p3 = Pr[0], Pr[1], Pr[2], Pr[3]
    for k in range(0, ordinates_adj.shape[0], 4):
        o0, o1, o2, o3 = ordinates_adj[k], ordinates_adj[k + 1], ordinates_adj[k + 2], ordinates_adj[k + 3]
        q0, q1, q2, q3 = flow_adj[k], flow_adj[k + 1], flow_adj[k + 2], flow_adj[k + 3]
        q4, q5, q6 = flow_adj[k + 4], flow_adj[k + 5], flow_adj[k + 6]
        for i in range(o0.size):
            a, b, c, d = share * p0[i], share * p1[i], share * p2[i], share * p3[i]
            f0, f1, f2, f3, f4, f5, f6 = q0[i], q1[i], q2[i], q3[i], q4[i], q5[i], q6[i]
            o0[i] = four_steps(o0[i], a, b, c, d, f0, f1, f2, f3)
            o1[i] = four_steps(o1[i], a, b, c, d, f1, f2, f3, f4)
            o2[i] = four_steps(o2[i], a, b, c, d, f2, f3, f4, f5)
            o3[i] = four_steps(o3[i], a, b, c, d, f3, f4, f5, f6)


def four_steps(total, a, b, c, d, a_adj, b_adj, c_adj, d_adj):
    """Add what the inflows a to d of four steps, the last first, are to the adjoint of an ordinate."""
    total += queue_step_adjoint(d, d, d_adj)[0]
    total += queue_step_adjoint(c, c, c_adj)[0]
    total += queue_step_adjoint(b, b, b_adj)[0]
    return total + queue_step_adjoint(a, a, a_adj)[0]
