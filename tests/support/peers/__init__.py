"""Real MCP peers of the tests: servers and clients that run as processes of their own.

The programs import each other as plain modules (`import witness`), since some of them run in an environment
of their own that has another SDK version and not the project.
"""
