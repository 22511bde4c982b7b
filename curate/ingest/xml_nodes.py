"""XML from strangers, as plain nodes.

XMLs that declare entities are refused: no bomb is unfolded, and no file or address is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from curate.ingest.location import Problem, shown

MAX_DEPTH = 64


@dataclass(slots=True)
class Node:
    """An XML element: tag, text, children."""

    tag: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def child(self, tag: str) -> Node | None:
        """Return the first child called `tag`."""
        return next((node for node in self.children if node.tag == tag), None)

    def value(self, *path: str) -> str | None:
        """Return the stripped text at a path of tags, or None."""
        node: Node | None = self
        for tag in path:
            node = node.child(tag) if node else None
        return node.text.strip() if node else None


def parse_xml(data: bytes) -> Node | Problem:
    """Return the root element, or why the XML is refused: not well-formed, entities, nested too deeply."""
    root = Node("")
    stack = [root]
    refused: list[str] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(why: str) -> None:
        refused.append(why)
        raise ValueError(why)

    def start(tag: str, _attributes: Mapping[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            refuse(f"it is nested more than {MAX_DEPTH} deep")
        node = Node(tag)
        stack[-1].children.append(node)
        stack.append(node)

    def text(data: str) -> None:
        stack[-1].text += data

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = lambda *_: refuse("it declares entities")
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat takes "this is all" by position
    except (expat.ExpatError, ValueError, LookupError) as error:
        return Problem("xml_refused", {"why": refused[0] if refused else shown(str(error))})
    return root.children[0]
