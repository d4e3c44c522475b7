-- What Redis lost with an epoch stays on hold, for sidecars may have spent it and not reported it yet (DESIGN rule 9). A window's
-- units are free again when the window ends; a wallet's have no such end, and would stay for ever. So they are written off
-- some time after their epoch ended, with a line in the audit log. Records that come later still are booked all the same: they,
-- like refunds, may take a wallet below its floor.

alter table escrow_floats add column written_off bigint not null default 0 check (written_off >= 0);  -- cumulative, as the others

create or replace function held_units(p_account bigint) returns bigint language sql stable as $$
  select coalesce(sum(greatest(0, funded + lent - booked - recalled - written_off)), 0)::bigint
    from escrow_floats where account = p_account
$$;

-- Frees the money of wallet floats whose epoch ended before p_ended, at most p_limit of them. Wallets are locked tenant by tenant
-- in the order of all who lock several; a wallet's accounts change only under its lock.
create function write_off_floats(p_ended timestamptz, p_limit integer, p_now timestamptz)
returns table (tenant text, bucket text, epoch bigint, units bigint, currency text, amount_micros bigint) language plpgsql as $$
#variable_conflict use_column
declare
  f record;
  v_before escrow_accounts;
begin
  for f in select a.id, a.tenant, a.bucket, x.epoch from escrow_floats x
             join escrow_accounts a on a.id = x.account and a.wallet
             join tenants t on t.id = a.tenant
             join epochs e on e.shard = t.shard and e.number = x.epoch and e.state <> 'open' and e.closing_at <= p_ended
            where x.funded + x.lent > x.booked + x.recalled + x.written_off
            order by a.tenant, a.bucket, x.epoch limit least(p_limit, 10000) loop
    perform from wallets w where w.tenant = f.tenant order by w.currency for no key update;
    select * into v_before from escrow_accounts a where a.id = f.id for no key update;
    select x.funded + x.lent - x.booked - x.recalled - x.written_off into units
      from escrow_floats x where x.account = f.id and x.epoch = f.epoch;
    continue when units <= 0;
    update escrow_floats x set written_off = x.written_off + units where x.account = f.id and x.epoch = f.epoch;
    perform escrow_rehold(f.id);
    select v_before.held_micros - a.held_micros into amount_micros from escrow_accounts a where a.id = f.id;
    tenant := f.tenant; bucket := f.bucket; epoch := f.epoch; currency := v_before.held_currency;
    insert into audit_log (at, tenant, actor, action, reason, details)
      values (p_now, f.tenant, 'housekeeper', 'wallet.write_off_float', 'the epoch ended and not all of its units were reported',
              jsonb_build_object('bucket', f.bucket, 'epoch', f.epoch, 'units', units, 'currency', currency, 'amount_micros', amount_micros));
    return next;
  end loop;
end $$;
revoke execute on function write_off_floats(timestamptz, integer, timestamptz) from public;
grant execute on function write_off_floats(timestamptz, integer, timestamptz) to tallygate_pipeline;
