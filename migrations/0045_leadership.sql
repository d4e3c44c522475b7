-- Who leads, by a lease that this database's clock judges: it ends by itself, whatever becomes of its holder and of its
-- connections. Safety does not rest on it (operator/ledger/leadership.h).

create table leadership (
  only_one boolean primary key default true check (only_one),
  holder text not null default '',
  term bigint not null default 0,                     -- counts the reigns: another at each take-over and after each gap
  expires_at timestamptz not null default '-infinity'
) with (fillfactor = 10);
insert into leadership default values;

-- Takes the lease where it is free, keeps it where it is the caller's. An expiry further ahead than any lease goes was
-- written before this clock was set back: it binds nobody.
create function lead(p_holder text, p_lease_ms bigint, out o_leads boolean, out o_term bigint, out o_now timestamptz)
language plpgsql as $$
declare
  v_lease interval := p_lease_ms * interval '1 millisecond';
begin
  update leadership
     set term = term + case when holder = p_holder and expires_at > clock_timestamp() then 0 else 1 end,
         holder = p_holder, expires_at = clock_timestamp() + v_lease
   where holder = p_holder or expires_at <= clock_timestamp() or expires_at > clock_timestamp() + v_lease
  returning term into o_term;
  o_leads := found;
  o_now := clock_timestamp();
end $$;

-- In order: the next may lead at once.
create function resign(p_holder text) returns void language sql as $$
  update leadership set expires_at = '-infinity' where holder = p_holder
$$;

-- Each publisher that takes over begins a reign. What one wrote before that is written under the row's lock, what it
-- writes after is refused: a leader that slept through its successor's work overwrites no newer terms.
alter table publication add column reign bigint not null default 0;

create function begin_reign(out o_generation text, out o_version bigint, out o_reign bigint) language sql as $$
  update publication set reign = reign + 1 returning generation, version, reign
$$;

create function reigns(p_reign bigint) returns boolean language sql as $$
  select reign = p_reign from publication for share
$$;

-- As in 0005, but what a wrong clock wrote binds nobody: opening waits no longer than the longest gap, and an epoch that
-- was opened in what is the future now did not live short.
create or replace function epoch_open(p_shards integer[], p_expected bigint[], p_now timestamptz)
returns table (o_shard integer, o_number bigint) language plpgsql as $$
declare
  s shard_epochs;
  i integer;
begin
  for i in select place from unnest(p_shards) with ordinality as t (shard, place) order by shard loop
    select * into s from shard_epochs where shard = p_shards[i] for no key update;
    o_shard := p_shards[i];
    o_number := 0;
    if found and s.number = p_expected[i]
       and (s.not_before is null or s.not_before <= p_now or s.not_before > p_now + interval '8 seconds') then
      o_number := s.number + 1;
      update epochs set state = 'closing', closing_at = p_now where shard = s.shard and number = s.number and state = 'open';
      insert into epochs (shard, number, state, opened_at) values (s.shard, o_number, 'open', p_now);
      s.gap_ms := case when s.opened_at > p_now - interval '5 seconds' and s.opened_at <= p_now
                       then least(8000, s.gap_ms * 2) else 250 end;
      update shard_epochs set number = o_number, opened_at = p_now, gap_ms = s.gap_ms,
             not_before = p_now + s.gap_ms * interval '1 millisecond' where shard = s.shard;
    end if;
    return next;
  end loop;
end $$;

select secure_tables();
