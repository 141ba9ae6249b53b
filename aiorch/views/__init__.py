"""
What people see of a DAG and its runs: drawings, live progress, summaries. All of it reads, none of it decides.

`outline` folds what is too large to show; `graph` and `svg` draw it, `progress` puts it into rows and lines, `follow`
and `live` show those while a run goes on, `report` when it has ended.
"""
