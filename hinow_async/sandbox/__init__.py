"""The HInow service in small, on loopback: to try, to test and to measure, without a key and without cost.

```python
from hinow_async.sandbox import Behaviour, Sandbox

async with Sandbox(Behaviour(latency=1.0, max_in_flight=40)) as sandbox:
    ...  # sandbox.base_url, sandbox.api_key, sandbox.billing
```

In synchronous code: ``with Sandbox.in_thread(Behaviour()) as sandbox:``.
"""

from hinow_async.sandbox.behaviour import Behaviour
from hinow_async.sandbox.billing import Billing, Received
from hinow_async.sandbox.faults import Fault
from hinow_async.sandbox.server import Sandbox

__all__ = ["Behaviour", "Billing", "Fault", "Received", "Sandbox"]
