-- Health of a BillingPlan, BillingTenant or BillingPolicy for Argo CD: well once this generation is in force. A used-up quota, an
-- empty wallet or a late payment is no ill health of the deployment: syncs must not wait for money.
local function condition(name)
  for _, c in ipairs((obj.status or {}).conditions or {}) do
    if c.type == name then return c end
  end
end

-- True while the condition speaks of an earlier generation, or of none yet.
local function is_old(c)
  local generation = obj.metadata.generation
  return c == nil or c.status == "Unknown" or (generation ~= nil and c.observedGeneration ~= nil and c.observedGeneration < generation)
end

if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "The last usage is being booked."}
end
local accepted, ready = condition("Accepted"), condition("Ready")
if is_old(accepted) then
  return {status = "Progressing", message = "The operator has not looked at it yet."}
end
if accepted.status == "False" then
  return {status = "Degraded", message = accepted.message or accepted.reason}
end
if is_old(ready) then
  return {status = "Progressing", message = "It is on its way to the sidecars."}
end
if ready.status == "True" then
  return {status = "Healthy", message = ready.message or "It is in force."}
end
return {status = "Degraded", message = ready.message or ready.reason}
