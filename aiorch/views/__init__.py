"""
Views of a DAG and its runs for people: drawings, live progress, summaries. Views read a run and never change it.

`outline` reduces a DAG to a drawable size; `graph` and `svg` draw the outline. `progress` turns a run into rows and
lines, which `follow` and `live` show during the run, and `report` after its end.
"""
