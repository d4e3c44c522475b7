-- The escrow ladder (docs/ARCHITECTURE.md): capacity handed to Redis under an epoch is a float, on hold here until booked.

-- Its row lock serialises opening (for update) with registering and funding (for share).
create table shard_epochs (
  shard smallint primary key check (shard between 0 and 63),
  number bigint not null default 0,                 -- the current epoch; 0: none was ever opened
  opened_at timestamptz,
  gap_ms bigint not null default 0,                 -- opening backs off while epochs are short-lived
  not_before timestamptz
);
insert into shard_epochs (shard) select generate_series(0, 63);

create table epochs (
  shard smallint not null references shard_epochs,
  number bigint not null,
  state text not null check (state in ('open', 'closing', 'closed')),
  opened_at timestamptz not null,
  closing_at timestamptz,
  closed_at timestamptz,
  primary key (shard, number)
);
create index epochs_closing on epochs (shard, number) where state = 'closing';

create table incarnations (
  id bigint generated always as identity primary key,
  shard smallint not null references shard_epochs,
  incarnation text not null,
  first_epoch bigint not null,
  last_epoch bigint,                                -- null: alive; else declared gone while this epoch was current
  final_epoch bigint not null default 0,            -- reported finally for all epochs below this one
  watermark bigint not null default 0,              -- the contiguous prefix of its records that is booked
  boot_id text not null,
  pod text not null,
  software text not null,
  torn boolean not null default false,              -- its disk lost its last second: it returns nothing
  registered_at timestamptz not null,
  unique (shard, incarnation)
) with (fillfactor = 70);

-- What an incarnation reported finally: at most so much will ever be booked of that epoch.
create table final_reports (
  incarnation_id bigint not null references incarnations,
  epoch bigint not null,
  name text not null,                               -- the bucket, as the record names it
  ceiling bigint not null,
  seq bigint not null,
  reported_at timestamptz not null,
  primary key (incarnation_id, epoch, name)
);

create table escrow_accounts (
  id bigint generated always as identity primary key,
  tenant text not null,                             -- no reference: usage of an unknown tenant is booked too
  bucket text not null,                             -- core/redis_contract/bucket_id.h
  name text not null,                               -- the limit, or for a wallet bucket the meter
  wallet boolean not null,
  window_start timestamptz,                         -- null for wallets
  window_end timestamptz,
  booked bigint not null default 0 check (booked >= 0),
  requests bigint not null default 0,
  held_micros bigint not null default 0 check (held_micros >= 0),  -- wallets: money on hold for the units in floats
  held_currency text,                               -- of that money
  crossed_at timestamptz,                           -- when booked usage first passed a soft limit's amount
  version bigint not null default 1,                -- of what is told to sidecars about exhaustion
  created_at timestamptz not null,
  unique (tenant, bucket),
  check (wallet = (window_end is null))
) with (fillfactor = 70);
create index escrow_accounts_window on escrow_accounts (tenant, name, window_start);

create table escrow_floats (
  account bigint not null references escrow_accounts,
  epoch bigint not null,
  funded bigint not null default 0 check (funded >= 0),      -- cumulative totals, all of them
  booked bigint not null default 0 check (booked >= 0),
  recalled bigint not null default 0 check (recalled >= 0),
  acked bigint not null default 0 check (acked >= 0),        -- the highest funded total that Redis has shown to know
  primary key (account, epoch)
) with (fillfactor = 70);
