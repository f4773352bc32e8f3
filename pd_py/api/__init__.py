"""PD's HTTP API under the public paths, `/pd/api/v1/...`, with the public JSON shapes, codes and texts."""
