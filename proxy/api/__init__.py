"""The Gateway API: what people and programs do in the pages, for scripts. See docs/api.md."""
