"""Names of the channels over which controller processes hint at changes to each other.

A hint may be lost; whoever listens also asks from time to time.
"""

#: Gateways name the tests that got results: ids, comma-separated, a few messages a second at most.
RESULTS = "streamswarm_results"
#: Whoever writes down what an operation on the fleet does names the operation: its id.
OPERATIONS = "streamswarm_operations"
