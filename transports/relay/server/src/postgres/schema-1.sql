-- The first schema. Everything of a log has the log's id first in its key, so the same tables can be spread by it; accounts, codes
-- and what all nodes share are small and belong on every node of such a cluster.
create table cairn_relay.meta (
    key text primary key,
    value bytea not null
);
create table cairn_relay.logs (
    log bytea primary key,
    seq bigint not null,
    head bytea not null,
    access bytea not null,
    admin bytea not null,
    knock bytea not null,
    record bytea not null,
    version integer not null,
    account bytea,
    chunks bigint not null,
    bytes bigint not null,
    asks bigint not null,
    staged bigint not null,
    last_append bigint not null,
    blocked boolean not null
);
create index logs_by_account on cairn_relay.logs (account) where account is not null;
-- Places of a log, without gaps. `trimmed`: when it was hidden, 0 if it is not.
create table cairn_relay.chunks (
    log bytea not null,
    seq bigint not null,
    name bytea not null,
    bytes integer not null,
    kind smallint not null,
    trimmed bigint not null,
    erased boolean not null,
    primary key (log, seq)
);
create index chunks_about on cairn_relay.chunks (log, seq) where kind in (3, 4);
create index chunks_trimmed on cairn_relay.chunks (trimmed) where trimmed > 0 and not erased;
-- Where each name is: its place, 0 as long as it is uploaded only. A name has one row for ever: the same chunk twice is one.
-- `old`: the place it had before it was trimmed and came again.
create table cairn_relay.names (
    log bytea not null,
    name bytea not null,
    seq bigint not null,
    bytes integer not null,
    kind smallint not null,
    at bigint not null,
    old bigint not null,
    primary key (log, name)
);
create index names_staged on cairn_relay.names (at) where seq = 0;
-- Bytes of the small chunks; those of the large ones lie among the parts.
create table cairn_relay.bodies (
    log bytea not null,
    name bytea not null,
    data bytea not null,
    primary key (log, name)
);
alter table cairn_relay.bodies alter column data set storage external;
create table cairn_relay.accounts (
    account bytea primary key,
    name text not null unique,
    auth bytea not null,
    wrapped bytea not null,
    recovery_auth bytea not null,
    recovery_wrapped bytea not null,
    bytes bigint not null,
    logs bigint not null,
    quota bigint not null,
    blocked boolean not null,
    created bigint not null
);
create table cairn_relay.tokens (
    token bytea primary key,
    account bytea not null,
    since bigint not null
);
create index tokens_by_account on cairn_relay.tokens (account, since);
create table cairn_relay.labels (
    account bytea not null,
    log bytea not null,
    label bytea not null,
    primary key (account, log)
);
create table cairn_relay.codes (
    code bytea primary key
);
create table cairn_relay.challenges (
    challenge bytea primary key,
    ends bigint not null
);
create index challenges_by_end on cairn_relay.challenges (ends);
