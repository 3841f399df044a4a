"""The loops of the links between cells and reaches: lateral inflow of a reach from runoff, and its adjoint."""

from __future__ import annotations

LINKS = '''
def collect_row(links, i, runoff, row):
    """Lateral inflow of a reach in its row: the first cell sets, the others add."""
    first, last = links.first[i], links.first[i + 1]
    if first == last:
        for t in range(row.size):
            row[t] = 0.0
    else:
        cell, area = links.cell[first], links.area[first]
        for t in range(row.size):
            row[t] = link_flow(runoff[t, cell], area)
        for link in range(first + 1, last):
            cell, area = links.cell[link], links.area[link]
            for t in range(row.size):
                row[t] += link_flow(runoff[t, cell], area)


def turn_cells(runoff, first, turned, row):
    """Put runoff of the cells first to first + 127 along rows of `turned`, whole lines of the cache at a time."""
    n_steps, stop = runoff.shape[0], min(first + 128, runoff.shape[1])
    whole, right = n_steps // 8 * 8, first + (stop - first) // 8 * 8
    for t in range(0, whole, 16):
        for cell in range(first, right, 8):
            turn_block(runoff, t, cell, turned, row + cell - first, t)
            if t + 8 < whole:
                turn_block(runoff, t + 8, cell, turned, row + cell - first, t + 8)
    for cell in range(first, stop):
        for t in range(whole if cell < right else 0, n_steps):
            turned[row + cell - first, t] = runoff[t, cell]


def turned_row(cell, runoff, turned, held):
    """The row of `turned` in which the runoff of a cell stands, or -1 where its column is to be read as it is.

    turned: float[128 * place, >= time]; held: int64[place + 4], of a power of two of places, which 128 cells stand
    there, -1 for none, then how many cells were turned, how many links asked, and the cell and half row from which the
    next are to be fetched (`route_eight`), for these are most often the next to be turned. Where cells lie so that few
    are found again, no more than three are turned for two links.
    """
    n_places = held.size - 4
    place, within = cell // 128 & n_places - 1, cell % 128
    held[n_places + 1] += 1
    if held[place] != cell // 128:
        if 2 * (held[n_places] - 128 * n_places) > 3 * held[n_places + 1]:
            return -1
        turn_cells(runoff, cell - within, turned, 128 * place)
        held[place] = cell // 128
        held[n_places] += 128
        held[n_places + 2], held[n_places + 3] = cell - within + 128, 0
    return 128 * place + within


def collect_turned(links, i, runoff, turned, held, row):
    """`collect_row` from cells along rows: a column of runoff has a line of the cache, and a page, for each step."""
    first, last = links.first[i], links.first[i + 1]
    if first == last:
        fill_row(row, 0.0)
    for link in range(first, last):
        cell, area = links.cell[link], links.area[link]
        k = turned_row(cell, runoff, turned, held)
        if k >= 0 and link == first:
            set_link(row, turned[k, : row.size], area)
        elif k >= 0:
            more_link(row, turned[k, : row.size], area)
        elif link == first:
            set_column(row, runoff, cell, area)
        else:
            more_column(row, runoff, cell, area)


def set_column(row, runoff, cell, area):
    """`set_link` from a column of runoff."""
    for t in range(row.size):
        row[t] = link_flow(runoff[t, cell], area)


def more_column(row, runoff, cell, area):
    """`more_link` from a column of runoff."""
    for t in range(row.size):
        row[t] += link_flow(runoff[t, cell], area)


def set_link(row, column, area):
    """Lateral inflow of a reach through its first link."""
    for t in range(row.size):
        row[t] = link_flow(column[t], area)


def more_link(row, column, area):
    """Lateral inflow of a reach through a further link."""
    for t in range(row.size):
        row[t] += link_flow(column[t], area)


def collect_runoff(links, runoff, lateral_inflow, lo, hi):
    """Lateral inflow (`ReachSeries`) of the reaches lo to hi from runoff [time, cell]."""
    for i in range(lo, hi):
        row = lateral_inflow.values[lateral_inflow.row[i]]
        collect_row(links, i, runoff, row)
        lateral_inflow.last[i] = row[row.size - 1]


def add_link(runoff_adj, lateral_adj, area):
    """Adjoint of a link, one term of `collect_row`."""
    for t in range(runoff_adj.size):
        runoff_adj[t] += link_flow_adjoint(area, lateral_adj[t])


def spread_runoff(first_link, link_row, link_area, lateral_adj, runoff_adj, lo, hi):
    """Adjoint of `collect_runoff`: runoff_adj [time, cell] of the cells lo to hi from lateral_adj [row, time].

    first_link, link_row, link_area: the links sorted by cell. Cells are summed along time, then put across it.
    """
    n_steps, width = runoff_adj.shape[0], 128
    tile, across_time = loose_rows(width, n_steps, runoff_adj), loose_rows(8, width, runoff_adj)
    for left in range(lo, hi, width):
        right = left + width if left + width < hi else hi
        for cell in range(left, right):
            row = tile[cell - left, :n_steps]
            fill_row(row, 0.0)
            for link in range(first_link[cell], first_link[cell + 1]):
                add_link(row, lateral_adj[link_row[link]], link_area[link])
        for t in range(0, n_steps // 8 * 8, 8):
            for k in range(0, right - left, 8):
                turn_block(tile, k, t, across_time, 0, k)
            for k in range(8):
                copy_row(across_time[k, : right - left], runoff_adj[t + k, left:right])
        for t in range(n_steps // 8 * 8, n_steps):
            for cell in range(left, right):
                runoff_adj[t, cell] = tile[cell - left, t]
'''

TURNED_SPACE = '''    n_steps = last - first
    most = min(16, 1 + 524288 // (128 * n_steps * state.itemsize), (runoff.shape[1] + 127) // 128)
    places = 0 if n_steps < 8 else 1  # of 128 cells each, a power of two of them: they stay in the second cache
    while 0 < 2 * places <= most:
        places *= 2
    rows = min(128 * places, runoff.shape[1])
    turned, held = loose_rows(rows + 1, n_steps, state), np.full(places + 4 if places > 0 else 0, -1)
    held[places:] = 0
    fill_row(turned[rows], 0.0)
    feeds, areas = np.empty(16, np.int64), loose_rows(1, 8, state)
'''
"""Lines that make the working space for runoff along rows, which `route_range` and what it calls take as `turned`,
`held`, `feeds` and `areas`, for a block of model steps first to last of `runoff`."""
