"""The ``args`` of an access record are gunicorn's, whatever a formatter, filter or handler does to
them."""

from __future__ import annotations

import copy
import json
import logging
import logging.handlers
import operator
import pickle
import queue
from collections.abc import Callable
from typing import Any

import pytest
from access_lines import DEFAULT, ONE_LETTER, Records, Ways, both_ways, facts, shown
from gunicorn.glogging import SafeAtoms

from meinheld_worker.atoms import Atoms


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return both_ways(monkeypatch)


def updated(args: Any, *others: Any, **more: Any) -> Any:
    args.update(*others, **more)
    return args


def without(args: Any, key: str) -> Any:
    del args[key]
    return list(args.items())


def changed(args: Any, key: str, value: Any) -> Any:
    args[key] = value
    return args[key], args[key.lower()], list(args.items())


USES: dict[str, Callable[[Any], Any]] = {
    "every letter": lambda args: [args[letter] for letter in ONE_LETTER],
    "what the format does not ask for": lambda args: (args["m"], args["{X-h}I"], args["{x}o"]),
    "in": lambda args: ["h" in args, "D" in args, "{x-h}i" in args, "{X-H}i" in args, "zz" in args],
    "get": lambda args: [
        args.get("h"),
        args.get("D"),
        args.get("{x-h}i"),
        args.get("{X-H}i"),
        args.get("zz"),
        args.get("zz", 1),
    ],
    "len": len,
    "bool": bool,
    "iteration": list,
    "reversed": lambda args: list(reversed(args)),
    "keys": lambda args: list(args.keys()),
    "values": lambda args: list(args.values()),
    "items": lambda args: list(args.items()),
    "a read, then items": lambda args: (args["{Host}i"], args["{none}i"], list(args.items())),
    "repr": repr,
    "str": str,
    "dict": lambda args: list(dict(args).items()),
    "dict with more": lambda args: dict(args, more=1),
    "unpacked": lambda args: {**args},
    "as keywords": lambda args: "{h} {D} {m}".format(**args),
    "format_map": lambda args: "{h} {D} {none}".format_map(args),
    "%": lambda args: operator.mod("%(D)s %({host}i)s %(none)s", args),
    "==": lambda args: (args == dict(args), args == {}, args != {}, operator.eq({}, args)),
    "equal to a copy": lambda args: (dict(args) == args, args.copy() == args),
    "|": lambda args: (args | {"h": 1}, {"h": 1} | args),
    "|=": lambda args: args.__ior__({"h": 1}),
    "copy": lambda args: [(type(one), one) for one in (args.copy(), copy.copy(args))],
    "deepcopy": lambda args: (type(copy.deepcopy(args)), copy.deepcopy(args)),
    "pickle": lambda args: (type(pickle.loads(pickle.dumps(args))), pickle.dumps(args)),
    "JSON": json.dumps,
    "isinstance": lambda args: isinstance(args, dict),
    "set": lambda args: changed(args, "h", "redacted"),
    "set in odd case": lambda args: changed(args, "{X-New}i", "new"),
    "update": lambda args: list(updated(args, {"h": 1}, D=2).items()),
    "setdefault": lambda args: (args.setdefault("h", 1), args.setdefault("zz", 1), len(args)),
    "del": lambda args: without(args, "{x-h}i"),
    "pop": lambda args: (args.pop("h"), args.pop("{x-h}i"), args.pop("zz", 1), len(args)),
    "popitem": lambda args: (args.popitem(), len(args)),
    "clear": lambda args: (args.clear(), len(args), args["h"]),
    "hash": lambda args: type(args).__hash__,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_args_can_be_used_as_gunicorns(both: Ways, use: Callable[[Any], Any]) -> None:
    theirs, ours = both(DEFAULT).uses(lambda record: use(record.args), facts())
    assert len(theirs) == 1
    assert ours == theirs


def test_every_method_of_a_dict_is_gunicorns_but_the_reading_of_one_item() -> None:
    creation = {"__init__", "__new__", "__class_getitem__", "fromkeys", "__doc__"}
    reading = {"__getattribute__", "__getitem__", "__sizeof__"}
    # Dicts have no order: a TypeError in any case.
    order = {"__ge__", "__gt__", "__le__", "__lt__"}
    rest = set(vars(dict)) - set(vars(Atoms))
    assert rest <= creation | reading | order | {"__hash__"}


def test_what_a_filter_changes_is_what_is_formatted(both: Ways) -> None:
    def redacted(record: Any) -> str:
        record.args["r"] = "GET /secret HTTP/1.1"
        record.args["{referer}i"] = "none"
        return str(record.getMessage())

    theirs, ours = both('%(r)s "%({Referer}i)s" %(s)s').uses(redacted, facts())
    assert ours == theirs == ['GET /secret HTTP/1.1 "none" 200']


def test_a_handler_that_keeps_a_record_has_the_environ_of_its_time(
    both: Ways,
) -> None:
    way = both(DEFAULT)
    told = facts()
    way.handle(handler := Records(lambda record: record))
    way.we_write(told)
    told[1]["app.own"] = "changed afterwards"
    kept = handler.found[0].args
    assert kept["{app.own}e"] == 7
    assert type(kept) is SafeAtoms


def test_a_handler_may_both_use_and_keep_a_record(both: Ways) -> None:
    theirs, ours = both(DEFAULT).uses(lambda record: (len(record.args), record)[1], facts())
    assert ours[0].args == theirs[0].args


def test_a_queue_of_records(both: Ways) -> None:
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    way = both(DEFAULT)
    way.handle(logging.handlers.QueueHandler(waiting))
    way.gunicorn_writes(facts())
    way.we_write(facts())
    theirs, ours = waiting.get_nowait(), waiting.get_nowait()
    assert (ours.msg, ours.getMessage()) == (theirs.msg, theirs.getMessage())
    assert shown(ours) == shown(theirs)


def test_a_record_for_another_machine(both: Ways) -> None:
    def sent(record: logging.LogRecord) -> Any:
        octets = logging.handlers.SocketHandler("localhost", 0).makePickle(record)
        seen = pickle.loads(octets[4:])
        return {name: seen[name] for name in ("name", "msg", "args", "levelname", "funcName")}

    theirs, ours = both(DEFAULT).uses(sent, facts())
    assert ours == theirs
