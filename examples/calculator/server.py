"""The sample MCP server of `make run`: a calculator with four tools, built with the MCP Python SDK.

It listens on the loopback interface only and has no authentication of its own: the gateway in front of it
decides who may call. Start it alone with `python examples/calculator/server.py --port 8765`; its endpoint is
then `http://127.0.0.1:8765/mcp`.
"""

from __future__ import annotations

import argparse
import math
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

Number = int | float
Left = Annotated[Number, Field(description="The first number.")]
Right = Annotated[Number, Field(description="The second number.")]

ARITHMETIC = ToolAnnotations(readOnlyHint=True, destructiveHint=False, idempotentHint=True, openWorldHint=False)

server = MCPServer(
    name="calculator",
    title="Calculator",
    description="Adds, subtracts, multiplies and divides two numbers.",
    instructions="Use these tools for arithmetic with two numbers. Nothing is stored.",
    version="1.0.0",
    log_level="WARNING",
)


def _finite(result: Number) -> Number:
    # JSON has no infinity and no NaN.
    if isinstance(result, float) and not math.isfinite(result):
        raise ToolError("The result is too large to write down. Use smaller numbers.")
    return result


@server.tool(title="Add", annotations=ARITHMETIC)
def add(a: Left, b: Right) -> Number:
    """Add two numbers: the sum a + b."""
    return _finite(a + b)


@server.tool(title="Subtract", annotations=ARITHMETIC)
def subtract(a: Left, b: Right) -> Number:
    """Subtract the second number from the first: the difference a - b."""
    return _finite(a - b)


@server.tool(title="Multiply", annotations=ARITHMETIC)
def multiply(a: Left, b: Right) -> Number:
    """Multiply two numbers: the product a * b."""
    return _finite(a * b)


@server.tool(title="Divide", annotations=ARITHMETIC)
def divide(
    a: Annotated[Number, Field(description="The number to divide.")],
    b: Annotated[Number, Field(description="The number to divide by; not zero.")],
) -> float:
    """Divide the first number by the second: the quotient a / b. Dividing by zero is an error."""
    if b == 0:
        raise ToolError("Division by zero: choose a second number other than 0.")
    try:
        return float(_finite(a / b))
    except OverflowError as error:
        raise ToolError("The result is too large to write down. Use smaller numbers.") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="A calculator as an MCP server (streamable HTTP).")
    parser.add_argument("--port", type=int, default=8765, help="loopback port to listen on (default 8765)")
    port = parser.parse_args().port
    # Stateless with plain JSON answers: one `curl` line is enough to call a tool.
    server.run("streamable-http", host="127.0.0.1", port=port, stateless_http=True, json_response=True)


if __name__ == "__main__":
    main()
