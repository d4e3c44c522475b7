"""What the demos need at Stripe: customers and meters through its API, the same against the emulator and against Stripe."""

from tests.support.stripe_client import StripeClient


def set_up(base, key, meters, tenants):
    """→ (customer by tenant, meter by name)."""
    api = StripeClient(base, key)
    try:
        made = {name: api.ensure_meter(name) for name in meters}
        customers = {tenant: api.post("/v1/customers", {"name": f"Tallygate demo {tenant}", "metadata": {"tenant": f"shop/{tenant}"}})["id"]
                     for tenant in tenants}
    finally:
        api.close()
    return customers, made
