#include "operator/verify/catalogue.h"

#include "operator/ledger/migrator.h"

namespace tallygate::verify {
namespace {

// Definitions do not name the owner, nor the schema where it is on the search path. "C" makes one order everywhere.
constexpr const char* kQuery = R"sql(
with relations as (
  select c.oid, c.relname::text as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relacl
    from pg_class c
   where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and c.relpersistence = 'p'
     and c.relname !~ '^usage_records_[0-9]{6}$'
), entries (kind, name, definition) as (
  select 'server', 'major', (current_setting('server_version_num')::integer / 10000)::text
  union all
  select 'table', name, case relkind when 'p' then 'partitioned' else '' end from relations
  union all
  select 'column', r.name || '.' || a.attname,
         format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end
           || case when a.attidentity <> '' then ' identity' when a.attgenerated <> '' then ' generated ' || pg_get_expr(d.adbin, d.adrelid)
                   when d.adbin is not null then ' default ' || pg_get_expr(d.adbin, d.adrelid) else '' end
    from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
  union all
  select 'index', i.indexrelid::regclass::text,
         pg_get_indexdef(i.indexrelid, 0, true) || case when i.indisvalid then '' else ' INVALID' end
    from relations r join pg_index i on i.indrelid = r.oid
  union all
  select 'constraint', r.name || '.' || c.conname, pg_get_constraintdef(c.oid, true)
    from relations r join pg_constraint c on c.conrelid = r.oid and c.contype in ('c', 'f', 'p', 'u', 'x')
  union all
  select 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
         coalesce('returns ' || pg_get_function_result(p.oid), 'procedure') || case when p.prosecdef then ' security definer' else '' end
           || coalesce(' set ' || array_to_string(p.proconfig, ', '), '') || ' body ' || left(encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'), 32) || ' executed by '
           || coalesce((select string_agg(distinct coalesce(g.rolname, 'public'), ',' order by coalesce(g.rolname, 'public'))
                          from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x left join pg_roles g on g.oid = x.grantee
                         where x.grantee = 0 or g.rolname in ('tallygate_api', 'tallygate_pipeline', 'tallygate_admin')), 'the owner')
    from pg_proc p
   where p.pronamespace = current_schema()::regnamespace
     and not exists (select from pg_depend e where e.objid = p.oid and e.classid = 'pg_proc'::regclass and e.deptype = 'e')
  union all
  select 'trigger', r.name || '.' || t.tgname,
         pg_get_triggerdef(t.oid, true) || case t.tgenabled when 'D' then ' DISABLED' when 'A' then ' enabled always' when 'R' then ' enabled on replicas only' else '' end
    from relations r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
  union all
  select 'rls', name, case when relrowsecurity then 'enabled' else 'off' end || ' ' || case when relforcerowsecurity then 'forced' else 'not forced' end
    from relations
  union all
  select 'policy', r.name || '.' || p.polname,
         case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end
           || case when p.polpermissive then '' else ' restrictive' end || ' to '
           || coalesce((select string_agg(g.rolname, ',' order by g.rolname) from pg_roles g where g.oid = any (p.polroles)), 'public')
           || coalesce(' using ' || pg_get_expr(p.polqual, p.polrelid), '') || coalesce(' check ' || pg_get_expr(p.polwithcheck, p.polrelid), '')
    from relations r join pg_policy p on p.polrelid = r.oid
  union all
  select 'grant', r.name || ' to ' || coalesce(g.rolname, 'public'), string_agg(lower(x.privilege_type), ',' order by x.privilege_type)
    from relations r cross join lateral aclexplode(r.relacl) x left join pg_roles g on g.oid = x.grantee
   where x.grantee = 0 or g.rolname in ('tallygate_api', 'tallygate_pipeline', 'tallygate_admin') group by 2
  union all
  select 'grant', r.name || '.' || a.attname || ' to ' || coalesce(g.rolname, 'public'),
         string_agg(lower(x.privilege_type), ',' order by x.privilege_type)
    from relations r join pg_attribute a on a.attrelid = r.oid cross join lateral aclexplode(a.attacl) x
    left join pg_roles g on g.oid = x.grantee
   where x.grantee = 0 or g.rolname in ('tallygate_api', 'tallygate_pipeline', 'tallygate_admin') group by 2
  union all
  select 'role', rolname, case when rolcanlogin then 'can log in' else 'cannot log in' end
           || case when rolsuper then ', superuser' else '' end || case when rolbypassrls then ', bypasses row-level security' else '' end
    from pg_roles where rolname in ('tallygate_api', 'tallygate_pipeline', 'tallygate_admin')
)
select kind, name, regexp_replace(definition, '\s+', ' ', 'g') from entries
 order by kind collate "C", name collate "C", definition collate "C"
)sql";

}  // namespace

Result<std::vector<Entry>> read_catalogue(ledger::Session& session) {
  const auto rows = session.exec(kQuery);
  if (!rows) return tl::unexpected<Error>(rows.error());
  std::vector<Entry> entries;
  for (size_t i = 0; i < rows->size(); ++i) {
    entries.push_back({std::string(rows->text(i, 0)), std::string(rows->text(i, 1)), std::string(rows->text(i, 2))});
  }
  return entries;
}

std::string to_text(const std::vector<Entry>& entries) {
  std::string text;
  for (const Entry& entry : entries) text += entry.kind + '\t' + entry.name + '\t' + entry.definition + '\n';
  return text;
}

std::vector<Entry> parse_catalogue(std::string_view text) {
  std::vector<Entry> entries;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t first = line.find('\t');
    const size_t second = first == line.npos ? line.npos : line.find('\t', first + 1);
    if (second == line.npos) continue;
    entries.push_back({std::string(line.substr(0, first)), std::string(line.substr(first + 1, second - first - 1)),
                       std::string(line.substr(second + 1))});
  }
  return entries;
}

std::string migration_of(const Entry& entry) {
  // "table.column", "name(types)", "table to role": what the migration spells is the table, or the function's name.
  std::string word = entry.name.substr(0, entry.name.find_first_of("( "));
  if (const size_t dot = word.find('.'); dot != word.npos) {
    word = entry.kind == "column" || entry.kind == "trigger" ? word.substr(dot + 1) : word.substr(0, dot);
  }
  if (entry.kind == "function") word = "function " + word + "(";
  std::string found = "migrations/";
  for (const auto& migration : ledger::embedded_migrations()) {
    if (migration.sql.find(word) != migration.sql.npos) found = "migrations/" + std::string(migration.name) + ".sql";
  }
  return found;
}

}  // namespace tallygate::verify
