-- What is of no more use goes: quotes that nothing was charged at, and notes of ledger leases that no longer say anything.
-- Reservations tell what they were asked for in another currency, and a ledger lease how many units are new.

-- A quote that something was charged at is told for ever: its amounts refer to it. Others may be deleted, by the loops; changes
-- are refused as before.
drop trigger quotes_append_only on quotes;
create trigger quotes_append_only before update or truncate on quotes for each statement execute function refuse_change();
create index quotes_expiry on quotes (expires_at, id);
create index quoted_amounts_quote on quoted_amounts (quote);

-- Looks at the p_limit quotes that follow (p_expires_at, p_id) in the order of their expiry and expired before p_before, and
-- deletes those that nothing was charged at. Answers where it came to: an old quote is not used any more, so none needs to be
-- looked at twice.
create function drop_unused_quotes(p_before timestamptz, p_expires_at timestamptz, p_id text, p_limit integer,
                                   out o_seen integer, out o_dropped integer, out o_expires_at timestamptz, out o_id text)
language sql as $$
  with seen as (
    select q.id, q.expires_at from quotes q
     where q.expires_at < p_before and (q.expires_at, q.id) > (p_expires_at, p_id)
     order by q.expires_at, q.id limit least(greatest(p_limit, 0), 10000)
  ), dropped as (
    delete from quotes q using seen s
     where q.id = s.id and not exists (select from quoted_amounts a where a.quote = q.id) returning q.id
  ), last as (
    select s.expires_at, s.id from seen s order by s.expires_at desc, s.id desc limit 1
  )
  select (select count(*) from seen)::integer, (select count(*) from dropped)::integer, (select expires_at from last), (select id from last)
$$;

-- Deletes notes of ledger leases of which nothing is left (all returned, or nothing ever granted) and whose epoch is over: under
-- an epoch that is over nothing is granted or returned, and closing such a lease answers 0 with its note or without, now and
-- whenever that is repeated. Notes of what a lease paid for stay, for a close may be repeated however late. Accounts that
-- somebody works on are left to the next run.
create function trim_ledger_leases(p_limit integer) returns integer language plpgsql as $$
declare
  v_trimmed integer;
begin
  with idle as (
    select l.account, l.epoch, l.incarnation_id
      from ledger_leases l join escrow_accounts a on a.id = l.account
      join tenants t on t.id = a.tenant join shard_epochs s on s.shard = t.shard
     where l.granted = l.returned and l.epoch < s.number
     limit least(greatest(p_limit, 0), 10000) for no key update of a skip locked
  )
  delete from ledger_leases l using idle i
   where l.account = i.account and l.epoch = i.epoch and l.incarnation_id = i.incarnation_id and l.granted = l.returned;
  get diagnostics v_trimmed = row_count;
  return v_trimmed;
end $$;

revoke execute on function drop_unused_quotes(timestamptz, timestamptz, text, integer), trim_ledger_leases(integer) from public;
grant execute on function drop_unused_quotes(timestamptz, timestamptz, text, integer), trim_ledger_leases(integer) to tallygate_pipeline;

-- Of the hold: quote … rate_picos; of what was committed: cost_….
drop function wallet_reservations(text, text, bigint, integer), wallet_reservation(text, text);
create function reservation_row(c credit_reservations)
returns table (id bigint, currency text, call_id text, state text, amount_micros bigint, committed_micros bigint,
               expires_at timestamptz, created_at timestamptz, resolved_at timestamptz,
               quote text, quoted_currency text, quoted_micros bigint, rate_picos bigint,
               cost_quote text, cost_currency text, cost_micros bigint, cost_rate_picos bigint) language sql stable as $$
  select c.id, c.currency, c.call_id, c.state, c.amount_micros, c.committed_micros, c.expires_at, c.created_at, c.resolved_at,
         h.quote, hq.from_currency, h.amount_micros, hq.rate_picos, p.quote, pq.from_currency, p.amount_micros, pq.rate_picos
    from (select) one
    left join quoted_amounts h on h.transaction = c.reserve_transaction left join quotes hq on hq.id = h.quote
    left join quoted_amounts p on p.transaction = c.commit_transaction left join quotes pq on pq.id = p.quote
$$;
create function wallet_reservations(p_tenant text, p_state text, p_before bigint, p_limit integer)
returns table (id bigint, currency text, call_id text, state text, amount_micros bigint, committed_micros bigint,
               expires_at timestamptz, created_at timestamptz, resolved_at timestamptz,
               quote text, quoted_currency text, quoted_micros bigint, rate_picos bigint,
               cost_quote text, cost_currency text, cost_micros bigint, cost_rate_picos bigint) language sql stable as $$
  select r.* from (select * from credit_reservations c
                    where c.tenant = p_tenant and (p_state is null or c.state = p_state) and (p_before is null or c.id < p_before)
                    order by c.id desc limit least(greatest(p_limit, 0), 500)) c, reservation_row(c) r
   order by r.id desc
$$;
create function wallet_reservation(p_tenant text, p_call_id text)
returns table (id bigint, currency text, call_id text, state text, amount_micros bigint, committed_micros bigint,
               expires_at timestamptz, created_at timestamptz, resolved_at timestamptz,
               quote text, quoted_currency text, quoted_micros bigint, rate_picos bigint,
               cost_quote text, cost_currency text, cost_micros bigint, cost_rate_picos bigint) language sql stable as $$
  select r.* from credit_reservations c, reservation_row(c) r where c.tenant = p_tenant and c.call_id = p_call_id
$$;

-- How many units the transaction has granted so far is in tallygate.units_granted, for the API's metrics.
create or replace function ledger_lease_grant(p_account bigint, p_epoch bigint, p_incarnation bigint, p_units bigint, p_now timestamptz)
returns void language plpgsql as $$
begin
  if p_units <= 0 then return; end if;
  insert into ledger_leases (account, epoch, incarnation_id, granted) values (p_account, p_epoch, p_incarnation, p_units)
    on conflict (account, epoch, incarnation_id) do update set granted = ledger_leases.granted + p_units;
  insert into escrow_floats (account, epoch, lent) values (p_account, p_epoch, p_units)
    on conflict (account, epoch) do update set lent = escrow_floats.lent + p_units;
  perform escrow_rehold(id) from escrow_accounts where id = p_account and wallet;
  if available(p_account, p_now) < 0 then
    raise exception 'NoOvershoot: leasing % units of account % leaves less than nothing', p_units, p_account;
  end if;
  perform set_config('tallygate.units_granted', (coalesce(nullif(current_setting('tallygate.units_granted', true), ''), '0')::bigint + p_units)::text, true);
end $$;
