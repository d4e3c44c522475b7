-- The inbox of Stripe's events: each is kept by its id before it is answered, and what it does commits with the mark that it is
-- done. What it does is stripe_effect()'s; here every type is none of ours.

-- waiting: due at next_attempt_at. active: its object is being asked for, by nobody else until then. failed: waits too, after a
-- fault that repeating may not mend. dead: for people, after three of those.
alter table webhook_events
  add column api_version text not null default '',
  add column object_id text not null default '',
  add column found_by text not null default 'webhook' check (found_by in ('webhook', 'sweep')),
  add column fetched jsonb,                         -- the event's object as it was when it was asked for
  add column faults integer not null default 0,     -- of those attempts that failed through nobody's absence
  add column result text not null default '';       -- what became of it
create index webhook_events_dead on webhook_events (received_at) where status = 'dead';
create index webhook_events_done on webhook_events (completed_at) where status = 'completed';

-- True where it is new. Serves the API's role, which sees no event.
create function accept_stripe_event(p_id text, p_type text, p_livemode boolean, p_api_version text, p_object_id text, p_payload jsonb,
    p_created timestamptz, p_found_by text, p_now timestamptz) returns boolean language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  insert into webhook_events (id, type, livemode, api_version, object_id, payload, event_created_at, found_by, received_at, next_attempt_at)
    values (p_id, p_type, p_livemode, p_api_version, p_object_id, p_payload, p_created, p_found_by, p_now, p_now)
    on conflict (id) do nothing;
  if not found then return false; end if;
  perform pg_notify('tallygate_webhook_events', '');
  return true;
end $$;

-- Stripe's reference to an object: its id, or the object itself where it was expanded. Null where there is none.
create function stripe_ref(p_value jsonb) returns text language sql immutable as $$
  select case jsonb_typeof(p_value) when 'string' then nullif(p_value #>> '{}', '') when 'object' then nullif(p_value ->> 'id', '') end
$$;

-- Where an event's object is asked for, or null where that is not to be done: it is none of those that do something.
create function stripe_object_path(p_type text, p_object_id text) returns text language sql immutable as $$
  select case when p_object_id !~ '^[A-Za-z0-9_]{1,255}$' then null
              when p_type like 'checkout.session.%' then '/v1/checkout/sessions/' || p_object_id
              when p_type like 'refund.%' or p_type = 'charge.refund.updated' then '/v1/refunds/' || p_object_id
              when p_type like 'charge.dispute.%' then '/v1/disputes/' || p_object_id end
$$;

-- What an event does: posts, and says what became of it. Raises an error where it cannot. `p_object` is as the event had it, or as it
-- was asked for.
create function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) returns text language plpgsql as $$
begin
  return 'ignored';
end $$;

-- Takes one event that is due and that nobody else has, and does what it does: verdict done, failed, dead or postponed. Or fetch: its object has
-- to be asked for at o_path, since the event is of another version of Stripe's API than `p_version`; told by fetched_stripe_event or
-- postpone_stripe_event within a minute, else somebody else takes it. No row: nothing is due.
create function work_stripe_event(p_version text, p_suspends boolean, p_now timestamptz, out o_id text, out o_type text, out o_verdict text,
                                  out o_result text, out o_path text, out o_attempts integer, out o_age_ms bigint, out o_tenant text)
returns setof record language plpgsql as $$
declare
  e webhook_events;
begin
  select * into e from webhook_events
   where status in ('waiting', 'active', 'failed') and next_attempt_at <= p_now
   order by next_attempt_at limit 1 for update skip locked;
  if not found then return; end if;
  o_id := e.id; o_type := e.type; o_attempts := e.attempts;
  o_age_ms := extract(epoch from p_now - e.event_created_at) * 1000;
  if e.fetched is null and e.api_version <> p_version then o_path := stripe_object_path(e.type, e.object_id); end if;
  if o_path is not null then
    update webhook_events set status = 'active', attempts = attempts + 1, next_attempt_at = p_now + interval '1 minute' where id = e.id;
    o_verdict := 'fetch';
    return next;
    return;
  end if;
  begin
    o_result := stripe_effect(e, coalesce(e.fetched, e.payload #> '{data,object}'), p_suspends, p_now);
    update webhook_events set status = 'completed', result = o_result, completed_at = p_now, last_error = '' where id = e.id
      returning tenant into o_tenant;
    o_verdict := 'done';
  exception when others then
    -- An outage of ours (connections, transactions, resources, locks, operators, the system) counts nothing: it waits, so that it is in
    -- nobody's way. All else is the event's fault, or will not go by itself either.
    o_result := left(sqlstate || ': ' || sqlerrm, 500);
    if left(sqlstate, 2) not in ('08', '25', '40', '53', '55', '57', '58') then
      o_verdict := fault_stripe_event(e.id, o_result, p_now);
    else
      update webhook_events set status = 'waiting', attempts = attempts + 1, last_error = o_result,
                                next_attempt_at = p_now + least(300, power(2, least(attempts, 9))) * interval '1 second'
       where id = e.id;
      o_verdict := 'postponed';
    end if;
  end;
  return next;
end $$;

-- Three faults, and it is dead.
create function fault_stripe_event(p_id text, p_error text, p_now timestamptz) returns text language plpgsql as $$
declare
  v_status text;
begin
  update webhook_events
     set faults = faults + 1, last_error = left(p_error, 500), fetched = null,
         status = case when faults >= 2 then 'dead' else 'failed' end,
         next_attempt_at = p_now + interval '10 seconds' * power(6, faults)
   where id = p_id returning status into v_status;
  return v_status;
end $$;

-- Its object is here: it is due at once.
create function fetched_stripe_event(p_id text, p_object jsonb, p_now timestamptz) returns boolean language plpgsql as $$
begin
  update webhook_events set fetched = p_object, status = 'waiting', next_attempt_at = p_now where id = p_id and status = 'active';
  return found;
end $$;

-- Its object could not be asked for, through no fault of its own: later, and no fault is counted.
create function postpone_stripe_event(p_id text, p_error text, p_after_ms bigint, p_now timestamptz) returns boolean language plpgsql as $$
begin
  update webhook_events set status = 'waiting', last_error = left(p_error, 500),
                            next_attempt_at = p_now + p_after_ms * interval '1 millisecond'
   where id = p_id and status = 'active';
  return found;
end $$;

-- By hand: once more, from the beginning. What it did is done once whatever comes again. False: there is none.
create function replay_stripe_event(p_id text, p_actor text, p_reason text, p_now timestamptz) returns boolean language plpgsql as $$
declare
  v_tenant text;
begin
  update webhook_events set status = 'waiting', faults = 0, attempts = 0, fetched = null, next_attempt_at = p_now
   where id = p_id returning tenant into v_tenant;
  if not found then return false; end if;
  insert into audit_log (at, tenant, actor, action, reason, details)
    values (p_now, v_tenant, p_actor, 'stripe.replay', p_reason, jsonb_build_object('event', p_id));
  perform pg_notify('tallygate_webhook_events', '');
  return true;
end $$;

create function stripe_queue(out o_waiting bigint, out o_active bigint, out o_dead bigint, out o_oldest timestamptz) language sql stable as $$
  select count(*) filter (where status <> 'active'), count(*) filter (where status = 'active'),
         (select count(*) from webhook_events where status = 'dead'), min(received_at)
    from webhook_events where status in ('waiting', 'active', 'failed')
$$;

-- Of what was done before p_before, at most p_limit.
create function drop_old_stripe_events(p_before timestamptz, p_limit integer) returns bigint language sql as $$
  with dropped as (delete from webhook_events where id in (
      select id from webhook_events where status = 'completed' and completed_at < p_before order by completed_at limit least(p_limit, 10000))
    returning 1)
  select count(*) from dropped
$$;

-- Up to which of Stripe's moments its list of events was looked through, and before when nobody looks again.
create table stripe_sweep (
  only_one boolean primary key default true check (only_one),
  swept_to timestamptz not null,
  next_at timestamptz not null
);

-- Whose turn it is: true for one of all operators, until p_next. Nothing older than the first sweep can be of this ledger's sessions.
create function claim_stripe_sweep(p_next timestamptz, p_now timestamptz) returns boolean language plpgsql as $$
begin
  insert into stripe_sweep (swept_to, next_at) values (p_now, p_next)
    on conflict (only_one) do update set next_at = p_next where stripe_sweep.next_at <= p_now;
  return found;
end $$;
select secure_tables();

revoke execute on function
  accept_stripe_event(text, text, boolean, text, text, jsonb, timestamptz, text, timestamptz),
  stripe_effect(webhook_events, jsonb, boolean, timestamptz), work_stripe_event(text, boolean, timestamptz),
  fault_stripe_event(text, text, timestamptz), fetched_stripe_event(text, jsonb, timestamptz),
  postpone_stripe_event(text, text, bigint, timestamptz), replay_stripe_event(text, text, text, timestamptz),
  drop_old_stripe_events(timestamptz, integer), claim_stripe_sweep(timestamptz, timestamptz) from public;
grant execute on function accept_stripe_event(text, text, boolean, text, text, jsonb, timestamptz, text, timestamptz)
  to tallygate_api, tallygate_pipeline;
grant execute on function
  stripe_effect(webhook_events, jsonb, boolean, timestamptz), work_stripe_event(text, boolean, timestamptz),
  fault_stripe_event(text, text, timestamptz), fetched_stripe_event(text, jsonb, timestamptz),
  postpone_stripe_event(text, text, bigint, timestamptz), replay_stripe_event(text, text, text, timestamptz),
  drop_old_stripe_events(timestamptz, integer), claim_stripe_sweep(timestamptz, timestamptz) to tallygate_pipeline, tallygate_admin;
