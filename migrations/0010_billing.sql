-- From usage records to Stripe. Aggregation: records of a minute become one aggregate, late ones a further revision.
-- Submission: an aggregate of an invoice-settled meter becomes one row of the outbox, and that one meter event.
--
-- Further kinds of accounts in units: what is aggregated goes from consumed to unbilled where Stripe will bill it, to
-- prepaid where the wallet has paid for it, to free where nobody bills it.

alter table usage_aggregates
  add column settlement text not null default 'invoice' check (settlement in ('invoice', 'wallet', 'none')),
  add column outboxed boolean not null default false;  -- nothing is left to do for the outbox
create index usage_aggregates_to_outbox on usage_aggregates (id) where not outboxed;

alter table meter_submissions
  add column sending_since timestamptz,               -- of the last attempt
  add column unknown_since timestamptz;               -- of the first attempt whose outcome nobody knows
create index meter_submissions_aside on meter_submissions (state, id) where state in ('dead', 'held');

-- Aggregates up to `p_limit` records from before `p_before`: marks them, inserts the aggregates and posts the transfers,
-- all in the caller's transaction. Concurrent calls: one works, the others return nothing. A record of a tenant that is
-- not known stays, and is aggregated once its tenant is.
create function aggregate_usage(p_now timestamptz, p_before timestamptz, p_limit integer,
                                out o_records bigint, out o_aggregates bigint) language plpgsql as $$
declare
  v_ids bigint[];
  v_picked bigint;
begin
  o_records := 0; o_aggregates := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('tallygate aggregator', 0)) then return; end if;
  with picked as materialized (
    select r.incarnation_id, r.seq, r.second, r.tenant, r.meter, r.units, r.requests,
           date_trunc('minute', r.second, 'UTC') as minute
      from usage_records r
     where r.aggregate_id is null and r.second < p_before and exists (select from tenants t where t.id = r.tenant)
     order by r.second limit p_limit
  ), grouped as (
    select tenant, meter, minute, sum(units)::bigint as units, sum(requests)::bigint as requests
      from picked group by tenant, meter, minute
  ), made as (
    insert into usage_aggregates (tenant, meter, minute, revision, units, requests, created_at, settlement, outboxed)
      select g.tenant, g.meter, g.minute,
             coalesce((select max(a.revision) + 1 from usage_aggregates a
                        where a.tenant = g.tenant and a.meter = g.meter and a.minute = g.minute), 0),
             g.units, g.requests, p_now, coalesce(m.settlement, 'invoice'),
             g.units = 0 or coalesce(m.settlement, 'invoice') <> 'invoice'
        from grouped g left join tenant_meters m on m.tenant = g.tenant and m.meter = g.meter
       order by g.tenant, g.meter, g.minute
      returning id, tenant, meter, minute
  ), marked as (
    update usage_records r set aggregate_id = made.id, aggregated_at = p_now
      from picked p join made on made.tenant = p.tenant and made.meter = p.meter and made.minute = p.minute
     where r.incarnation_id = p.incarnation_id and r.seq = p.seq and r.second = p.second and r.aggregate_id is null
    returning r.seq
  )
  select (select array_agg(id) from made), (select count(*) from picked), (select count(*) from marked)
    into v_ids, v_picked, o_records;
  if o_records <> v_picked then
    raise exception 'BilledOnce: % records were to be aggregated, % were marked', v_picked, o_records;
  end if;
  o_aggregates := coalesce(cardinality(v_ids), 0);
  if o_aggregates > 0 then perform post_aggregates(v_ids, p_now); end if;
end $$;

-- One transfer per aggregate: consumed −n, and +n to where its settlement says.
create function post_aggregates(p_ids bigint[], p_now timestamptz) returns void language plpgsql as $$
begin
  -- The accounts first, each once and in one order, so that two callers never wait for each other in a circle.
  perform ledger_account(d.tenant, d.kind, 'unit:' || d.meter)
    from (select distinct a.tenant, a.meter, k.kind
            from usage_aggregates a cross join lateral (values ('consumed'), (aggregate_account_kind(a.settlement))) k (kind)
           where a.id = any (p_ids) order by 1, 2, 3) d;
  with wanted as (
    select id, tenant, 'unit:' || meter as commodity, aggregate_account_kind(settlement) as kind, units
      from usage_aggregates where id = any (p_ids) and units <> 0
  ), transfers as (
    insert into ledger_transfers (kind, source, posted_at)
      select 'aggregate', 'aggregate:' || id, p_now from wanted order by id returning id, source
  )
  insert into ledger_postings (transfer, account, amount)
    select t.id, a.id, case a.kind when 'consumed' then -w.units else w.units end
      from transfers t join wanted w on t.source = 'aggregate:' || w.id
      join ledger_accounts a on a.tenant = w.tenant and a.commodity = w.commodity and a.kind in ('consumed', w.kind);
end $$;

create function aggregate_account_kind(p_settlement text) returns text language sql immutable as $$
  select case p_settlement when 'wallet' then 'prepaid' when 'none' then 'free' else 'unbilled' end
$$;

-- Puts meter events into the outbox. p_rows: [{"aggregate_id", "identifier", "tenant", "meter", "event_name", "customer",
-- "value", "event_time", "held": reason or ""}]. Returns how many are new.
create function enqueue_submissions(p_rows jsonb, p_now timestamptz) returns bigint language plpgsql as $$
declare
  v_new bigint;
begin
  with new_rows as (
    insert into meter_submissions (aggregate_id, identifier, tenant, meter, event_name, stripe_customer_id, value, event_time,
                                   state, last_error, next_attempt_at, created_at)
      select x.aggregate_id, x.identifier, x.tenant, x.meter, x.event_name, x.customer, x.value, to_timestamp(x.event_time),
             case when x.held = '' then 'pending' else 'held' end, x.held, p_now, p_now
        from jsonb_to_recordset(p_rows) as x (aggregate_id bigint, identifier text, tenant text, meter text, event_name text,
             customer text, value bigint, event_time bigint, held text) order by x.aggregate_id
      on conflict (aggregate_id) do nothing returning aggregate_id
  )
  select count(*) into v_new from new_rows;
  update usage_aggregates set outboxed = true
   where id in (select aggregate_id from jsonb_to_recordset(p_rows) as x (aggregate_id bigint)) and not outboxed;
  return v_new;
end $$;

-- Takes up to `p_limit` events that are due, at most `p_per_key` of one customer and meter, oldest first, and marks them as
-- being sent until `p_until`: whoever finds them there later knows that an attempt was begun and not recorded.
create function claim_submissions(p_now timestamptz, p_until timestamptz, p_limit integer, p_per_key integer)
returns setof meter_submissions language sql as $$
  with due as (
    select id from (select id, row_number() over (partition by stripe_customer_id, event_name order by id) as place
                      from meter_submissions where state in ('pending', 'sending') and next_attempt_at <= p_now) d
     where place <= p_per_key order by id limit p_limit
  ), locked as (
    select s.id from meter_submissions s join due on due.id = s.id
     where s.state in ('pending', 'sending') and s.next_attempt_at <= p_now order by s.id for update of s skip locked
  )
  update meter_submissions s
     set unknown_since = case when state = 'sending' then coalesce(unknown_since, sending_since, p_now) else unknown_since end,
         state = 'sending', attempts = attempts + 1, sending_since = p_now, next_attempt_at = p_until
    from locked where s.id = locked.id returning s.*
$$;

-- Records what became of attempts, in one transaction with the postings of those that were delivered: billed +n, unbilled −n.
-- p_rows: [{"id", "state": "delivered" | "pending" | "dead", "error", "unknown": whether its outcome is not known,
-- "sent": whether a call was made, "next": Unix milliseconds of the next attempt}]. A delivered event stays delivered.
create function record_attempts(p_rows jsonb, p_now timestamptz) returns bigint language plpgsql as $$
declare
  v_delivered bigint[];
begin
  with outcomes as (
    select * from jsonb_to_recordset(p_rows) as x (id bigint, state text, error text, unknown boolean, sent boolean, next bigint)
  ), changed as (
    update meter_submissions s
       set state = o.state, last_error = o.error,
           attempts = s.attempts - case when o.sent then 0 else 1 end,
           unknown_since = case when o.unknown then coalesce(s.unknown_since, s.sending_since) else s.unknown_since end,
           next_attempt_at = to_timestamp(o.next / 1000.0),
           delivered_at = case o.state when 'delivered' then p_now end
      from outcomes o where s.id = o.id and s.state not in ('delivered', 'dead')
    returning s.id, s.state
  )
  select array_agg(id order by id) filter (where state = 'delivered') into v_delivered from changed;
  if v_delivered is null then return 0; end if;
  perform ledger_account(d.tenant, k.kind, 'unit:' || d.meter)
    from (select distinct tenant, meter from meter_submissions where id = any (v_delivered) order by 1, 2) d
    cross join (values ('billed'), ('unbilled')) k (kind);
  with wanted as (
    select id, tenant, 'unit:' || meter as commodity, value from meter_submissions where id = any (v_delivered)
  ), transfers as (
    insert into ledger_transfers (kind, source, posted_at)
      select 'delivery', 'submission:' || id, p_now from wanted order by id returning id, source
  )
  insert into ledger_postings (transfer, account, amount)
    select t.id, a.id, case a.kind when 'unbilled' then -w.value else w.value end
      from transfers t join wanted w on t.source = 'submission:' || w.id
      join ledger_accounts a on a.tenant = w.tenant and a.commodity = w.commodity and a.kind in ('unbilled', 'billed');
  return cardinality(v_delivered);
end $$;
