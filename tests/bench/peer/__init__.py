"""The same endpoint as a Python team would first write it: FastAPI, Pydantic, SQLAlchemy, uvicorn.

It works on the service's own tables and indexes, finds callers by the digest of their key, decides by
the same rules, and commits the record of an answer before it sends it. It does less than the service
besides: no limits, no access log, no metrics, no vendor. `orm` is written with mapped classes, `text`
with one statement.
"""
