"""The picture that ``python -m meinheld top`` shows."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meinheld.figures import Change, Worker

STYLES = {"ready": "green", "booting": "cyan", "staying": "yellow"}
COLUMNS = ("state", "age", "req/s", "in flight", "longest", "connections", "busy", "memory")


def picture(change: Change, where: str) -> RenderableType:
    """A line for the fleet, and one for each worker, the oldest first."""
    table = Table(box=None, pad_edge=False, header_style="bold reverse")
    table.add_column("worker", justify="right", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    workers = change.now.workers.values()
    for worker in workers:
        table.add_row(str(worker.pid), *_cells(change, worker))
    ready = sum(worker.state in ("ready", "staying") for worker in workers)
    memory = sum(worker.memory or 0 for worker in workers)
    head = (
        f"meinheld at {where}: {ready} of {len(workers)} workers accept, "
        f"{change.now.started:.0f} started"
    )
    figures = [
        f"{change.rate():.0f} req/s",
        f"{change.rate('5'):.0f} 5xx/s",
        f"{sum(worker.in_flight for worker in workers):.0f} in flight",
        f"{sum(worker.active + worker.idle for worker in workers):.0f} connections",
        *(f"backlog of {name} {count:.0f}" for name, count in change.now.backlog.items()),
        octets(memory),
    ]
    return Group(Text(head, style="bold"), Text(", ".join(figures)), Text(), table)


def failure(reason: str) -> RenderableType:
    """What is shown while nobody answers."""
    return Text(reason, style="bold red")


def _cells(change: Change, worker: Worker) -> list[RenderableType]:
    return [
        Text(worker.state, style=STYLES.get(worker.state, "magenta")),
        duration(worker.age),
        f"{change.worker_rate(worker.pid):.0f}",
        f"{worker.in_flight:.0f}",
        f"{worker.oldest:.1f} s" if worker.in_flight else "",
        f"{worker.active:.0f} + {worker.idle:.0f} idle",
        f"{change.busy(worker.pid):.0%}",
        "" if worker.memory is None else octets(worker.memory),
    ]


def duration(seconds: float) -> str:
    """Seconds, as people say them: the two greatest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def octets(count: float) -> str:
    """Octets, in MiB."""
    return f"{count / (1 << 20):.1f} MiB"
