"""Functions that a pickle fetches as attributes of the classes in which torch keeps them: `getattr(torch._C._VariableFunctionsClass,
"tanh")`, as a module is pickled that has torch.tanh among its attributes.

Policy: `getattr` is how a payload gets at what it calls, so it is let pass only where every use of it in the pickle is of this very form:
the class, a plain name, a pair of both, a call, one after another, as seen in the opcodes (pickletools reads them and runs nothing).
What is fetched is named as the function that it is, and calling it is a call of that.
"""

from __future__ import annotations

from collections.abc import Iterator

GETATTR = "builtins.getattr"
OWNERS = {"torch._C._VariableFunctionsClass": "torch", "torch._C.TensorBase": "torch.Tensor", "torch.Tensor": "torch.Tensor"}
_SHARDED = "torch.distributed._shard.sharded_tensor.api.ShardedTensor"
# classes within a class, which a pickle fetches likewise: what a ShardedTensor says of its ranks
_INNER = frozenset(((_SHARDED, "ProcessGroupState"),))
_NOT = ("from_file", "register_hook")
_MOST = 64 << 20  # bytes of a pickle that is looked through
Token = tuple[str, str]  # ("global", its name), ("text", itself) or ("op", the opcode)


def is_plain(name: object) -> bool:
    """Whether an attribute of these classes computes, and does nothing else."""
    return type(name) is str and name.isidentifier() and not name.startswith("_") and name not in _NOT


def owner_of(owner: str, name: object) -> str | None:
    """The module or class that a pickle fetches `name` of, where it may be fetched of `owner`."""
    if (owner, name) in _INNER:
        return owner
    return OWNERS.get(owner) if is_plain(name) else None


def fetched(data: bytes, start: int, end: int) -> tuple[str, ...] | None:
    """The functions that the pickle at `start` fetches ("torch.tanh"), or None where it uses `getattr` in any other way."""
    out: dict[str, None] = {}
    use: list[Token] = []
    if end - start > _MOST:
        return None
    try:
        for token in _tokens(data[start:end]):
            if not use and token != ("global", GETATTR):
                continue
            use.append(token)
            if len(use) == 5:
                (_, owner), (_, name) = use[1:3]
                of = owner_of(owner, name)
                if [kind for kind, _ in use] != ["global", "global", "text", "op", "op"] or of is None:
                    return None
                if (use[3][1], use[4][1]) != ("TUPLE2", "REDUCE"):
                    return None
                out[f"{of}.{name}"] = None
                use = []
    except (ValueError, KeyError, IndexError):
        return None
    return None if use else tuple(out)


def _tokens(data: bytes) -> Iterator[Token]:
    """The opcodes, with what the memo gives in the place of asking for it, and globals named from the stack as one."""
    from pickletools import genops

    memo: dict[int, Token] = {}
    texts: list[Token] = []  # the latest, of which STACK_GLOBAL makes one global
    last: Token = ("op", "")
    for opcode, argument, _ in genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = last
            continue
        if name in ("GET", "BINGET", "LONG_BINGET"):
            last = memo[int(argument)]  # type: ignore[arg-type]
        elif name == "GLOBAL":
            module, _, what = str(argument).partition(" ")
            last = "global", f"{'builtins' if module == '__builtin__' else module}.{what}"
        elif name == "STACK_GLOBAL" and len(texts) == 2:
            last, texts = ("global", f"{texts[0][1]}.{texts[1][1]}"), []
        else:
            last = ("text", argument) if type(argument) is str and "UNICODE" in name else ("op", name)
        if last[0] == "text":
            if len(texts) == 2:
                yield texts.pop(0)
            texts.append(last)
            continue
        yield from texts
        texts = []
        yield last
