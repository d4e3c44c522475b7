-- Group commit: operations on wallets that arrive together share a statement, a transaction and a flush of the disk. Each
-- is one call of its function (operator/api/SQL.md), so what it checks and answers is the same as alone.

-- p_ops: [{"n": the caller's number, "fn": function, "a": [its parameters in their order, the tenant first]}]. Tenant by
-- tenant in one order, as every transaction that locks several wallets; row-level security shows each operation its own
-- tenant only. If one raises an error, all are undone: the caller runs them one by one. What was recalled is counted by a batch
-- of one: that locks a shard, and shards come before all wallets.
create function wallet_batch(p_ops jsonb) returns table (r wallet_result, n integer) language plpgsql as $$
declare
  o record;
begin
  for o in select e ->> 'fn' as fn, e -> 'a' as a, e -> 'a' ->> 0 as tenant, (e ->> 'n')::integer as place, count(*) over () as ops,
                  (case e ->> 'fn' when 'check_balance_and_deduct_asset_cost' then e #>> '{a,7}'
                                   when 'reserve_call_credits' then e #>> '{a,9}'
                                   when 'commit_reserved_credits' then e #>> '{a,8}' end)::jsonb as recalled
             from jsonb_array_elements(p_ops) e order by tenant, place loop
    if o.recalled is not null and o.ops > 1 then
      raise exception 'what was recalled is counted by a batch of one' using errcode = 'invalid_parameter_value';
    end if;
    perform set_config('tallygate.tenant', o.tenant, true);
    n := o.place;
    case o.fn
      when 'check_balance_and_deduct_asset_cost' then
        r := check_balance_and_deduct_asset_cost(o.tenant, o.a ->> 1, o.a ->> 2, o.a ->> 3, (o.a ->> 4)::bigint, o.a ->> 5,
               (o.a ->> 6)::timestamptz, o.recalled, (o.a ->> 8)::boolean);
      when 'reserve_call_credits' then
        r := reserve_call_credits(o.tenant, o.a ->> 1, o.a ->> 2, o.a ->> 3, o.a ->> 4, (o.a ->> 5)::bigint,
               (o.a ->> 6)::timestamptz, o.a ->> 7, (o.a ->> 8)::timestamptz, o.recalled, (o.a ->> 10)::boolean);
      when 'commit_reserved_credits' then
        r := commit_reserved_credits(o.tenant, o.a ->> 1, o.a ->> 2, o.a ->> 3, o.a ->> 4, (o.a ->> 5)::bigint, o.a ->> 6,
               (o.a ->> 7)::timestamptz, o.recalled, (o.a ->> 9)::boolean);
      when 'release_reserved_credits' then
        r := release_reserved_credits(o.tenant, o.a ->> 1, o.a ->> 2, o.a ->> 3, o.a ->> 4, (o.a ->> 5)::timestamptz);
    end case;
    return next;
  end loop;
end $$;

-- The same for status_check: p_ops: [{"n": …, "a": [tenant, currency, call id]}].
create function status_check_batch(p_ops jsonb)
returns table (end_call boolean, reason text, currency text, balance_micros bigint, reserved_micros bigint, float_micros bigint,
               effective_micros bigint, debt_limit_micros bigint, call_hold_micros bigint, n integer) language plpgsql as $$
declare
  o record;
begin
  for o in select e -> 'a' as a, (e ->> 'n')::integer as place from jsonb_array_elements(p_ops) e loop
    perform set_config('tallygate.tenant', o.a ->> 0, true);
    n := o.place;
    select s.* into end_call, reason, currency, balance_micros, reserved_micros, float_micros, effective_micros, debt_limit_micros,
           call_hold_micros from status_check(o.a ->> 0, o.a ->> 1, o.a ->> 2) s;
    return next;
  end loop;
end $$;

-- Planned once per connection; as an SQL function it was planned anew by each call.
create or replace function wallet_blocked(p_tenant text, p_currency text) returns text language plpgsql stable as $$
declare
  v_deleted boolean;
  v_suspended boolean;
begin
  select t.deleted_at is not null, t.suspended or w.suspended_reason is not null into v_deleted, v_suspended
    from tenants t left join wallets w on w.tenant = t.id and w.currency = p_currency where t.id = p_tenant;
  return case when v_deleted then 'TenantDeleted' when v_suspended then 'Suspended' when v_deleted is not null then '' end;
end $$;

-- I4 ZeroSum by statement rather than by posting: each statement that adds postings adds a balanced set to every transfer.
-- Together with what was there, which was balanced too, the sum stays zero.
drop trigger ledger_postings_zero_sum on ledger_postings;
create or replace function check_zero_sum() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  select p.transfer, a.commodity, sum(p.amount) as total into bad
    from new_postings p join ledger_accounts a on a.id = p.account
   group by p.transfer, a.commodity having sum(p.amount) <> 0 limit 1;
  if found then
    raise exception 'ZeroSum: the postings added to transfer % in % sum to %', bad.transfer, bad.commodity, bad.total
      using errcode = 'integrity_constraint_violation';
  end if;
  return null;
end $$;
create trigger ledger_postings_zero_sum after insert on ledger_postings referencing new table as new_postings
  for each statement execute function check_zero_sum();
alter table ledger_postings enable always trigger ledger_postings_zero_sum;

-- A wallet's row is written by each operation. Room for versions on its own page keeps updates heap-only and chains short.
alter table wallets set (fillfactor = 10);
