"""EXPLAIN: a plan, and what really happened, for people and for programs.

`optimizer.explanation` names the operators while a plan is made; `explain_tree` writes them as
text, `explain_json` as PostgreSQL's JSON.
"""

from planner.explain_json import explain_json
from planner.explain_tree import Actuals, TaskActuals, explain_text

__all__ = ["Actuals", "TaskActuals", "explain_json", "explain_text"]
