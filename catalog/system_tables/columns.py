"""The columns of PostgreSQL's system relations.

They are as PostgreSQL 16 has them, with what 17 and 18 added that their psql asks for
(`ADDED_LATER`).

Each text lists runs of columns of one type, `type column column ...; type column ...`, read by
`definition.columns_of`. Internal types stand as what a client gets of them: pg_node_tree, pg_lsn
and inet as text, xid as int8, int2vector and oidvector as arrays, and those of
information_schema as name, text or int4."""

from __future__ import annotations

PG_CATALOG: dict[str, str] = {
    "pg_aggregate": (
        "regproc aggfnoid; char aggkind; int2 aggnumdirectargs; regproc aggtransfn aggfinalfn "
        "aggcombinefn aggserialfn aggdeserialfn aggmtransfn aggminvtransfn aggmfinalfn; bool "
        "aggfinalextra aggmfinalextra; char aggfinalmodify aggmfinalmodify; oid aggsortop "
        "aggtranstype; int4 aggtransspace; oid aggmtranstype; int4 aggmtransspace; text "
        "agginitval aggminitval"
    ),
    "pg_am": ("oid oid; name amname; regproc amhandler; char amtype"),
    "pg_amop": (
        "oid oid amopfamily amoplefttype amoprighttype; int2 amopstrategy; char amoppurpose; "
        "oid amopopr amopmethod amopsortfamily"
    ),
    "pg_amproc": (
        "oid oid amprocfamily amproclefttype amprocrighttype; int2 amprocnum; regproc amproc"
    ),
    "pg_attrdef": ("oid oid adrelid; int2 adnum; text adbin"),
    "pg_attribute": (
        "oid attrelid; name attname; oid atttypid; int2 attlen attnum; int4 attcacheoff "
        "atttypmod; int2 attndims; bool attbyval; char attalign attstorage attcompression; bool "
        "attnotnull atthasdef atthasmissing; char attidentity attgenerated; bool attisdropped "
        "attislocal; int2 attinhcount attstattarget; oid attcollation; text[] attacl attoptions "
        "attfdwoptions attmissingval"
    ),
    "pg_auth_members": (
        "oid oid roleid member grantor; bool admin_option inherit_option set_option"
    ),
    "pg_authid": (
        "oid oid; name rolname; bool rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin "
        "rolreplication rolbypassrls; int4 rolconnlimit; text rolpassword; timestamptz "
        "rolvaliduntil"
    ),
    "pg_available_extensions": ("name name; text default_version installed_version comment"),
    "pg_cast": ("oid oid castsource casttarget castfunc; char castcontext castmethod"),
    "pg_class": (
        "oid oid; name relname; oid relnamespace reltype reloftype relowner relam relfilenode "
        "reltablespace; int4 relpages; float4 reltuples; int4 relallvisible; oid reltoastrelid; "
        "bool relhasindex relisshared; char relpersistence relkind; int2 relnatts relchecks; "
        "bool relhasrules relhastriggers relhassubclass relrowsecurity relforcerowsecurity "
        "relispopulated; char relreplident; bool relispartition; oid relrewrite; int8 "
        "relfrozenxid relminmxid; text[] relacl reloptions; text relpartbound"
    ),
    "pg_collation": (
        "oid oid; name collname; oid collnamespace collowner; char collprovider; bool "
        "collisdeterministic; int4 collencoding; text collcollate collctype colliculocale "
        "collicurules collversion"
    ),
    "pg_constraint": (
        "oid oid; name conname; oid connamespace; char contype; bool condeferrable condeferred "
        "convalidated; oid conrelid contypid conindid conparentid confrelid; char confupdtype "
        "confdeltype confmatchtype; bool conislocal; int2 coninhcount; bool connoinherit; "
        "int2[] conkey confkey; oid[] conpfeqop conppeqop conffeqop; int2[] confdelsetcols; "
        "oid[] conexclop; text conbin"
    ),
    "pg_conversion": (
        "oid oid; name conname; oid connamespace conowner; int4 conforencoding contoencoding; "
        "regproc conproc; bool condefault"
    ),
    "pg_database": (
        "oid oid; name datname; oid datdba; int4 encoding; char datlocprovider; bool "
        "datistemplate datallowconn; int4 datconnlimit; int8 datfrozenxid datminmxid; oid "
        "dattablespace; text datcollate datctype daticulocale daticurules datcollversion; "
        "text[] datacl"
    ),
    "pg_db_role_setting": ("oid setdatabase setrole; text[] setconfig"),
    "pg_default_acl": ("oid oid defaclrole defaclnamespace; char defaclobjtype; text[] defaclacl"),
    "pg_depend": (
        "oid classid objid; int4 objsubid; oid refclassid refobjid; int4 refobjsubid; char deptype"
    ),
    "pg_description": ("oid objoid classoid; int4 objsubid; text description"),
    "pg_enum": ("oid oid enumtypid; float4 enumsortorder; name enumlabel"),
    "pg_event_trigger": (
        "oid oid; name evtname evtevent; oid evtowner evtfoid; char evtenabled; text[] evttags"
    ),
    "pg_extension": (
        "oid oid; name extname; oid extowner extnamespace; bool extrelocatable; text "
        "extversion; oid[] extconfig; text[] extcondition"
    ),
    "pg_foreign_data_wrapper": (
        "oid oid; name fdwname; oid fdwowner fdwhandler fdwvalidator; text[] fdwacl fdwoptions"
    ),
    "pg_foreign_server": (
        "oid oid; name srvname; oid srvowner srvfdw; text srvtype srvversion; text[] srvacl "
        "srvoptions"
    ),
    "pg_foreign_table": ("oid ftrelid ftserver; text[] ftoptions"),
    "pg_group": ("name groname; oid grosysid; oid[] grolist"),
    "pg_index": (
        "oid indexrelid indrelid; int2 indnatts indnkeyatts; bool indisunique "
        "indnullsnotdistinct indisprimary indisexclusion indimmediate indisclustered indisvalid "
        "indcheckxmin indisready indislive indisreplident; int2[] indkey; oid[] indcollation "
        "indclass; int2[] indoption; text indexprs indpred"
    ),
    "pg_indexes": ("name schemaname tablename indexname tablespace; text indexdef"),
    "pg_inherits": ("oid inhrelid inhparent; int4 inhseqno; bool inhdetachpending"),
    "pg_language": (
        "oid oid; name lanname; oid lanowner; bool lanispl lanpltrusted; oid lanplcallfoid "
        "laninline lanvalidator; text[] lanacl"
    ),
    "pg_largeobject_metadata": ("oid oid lomowner; text[] lomacl"),
    "pg_locks": (
        "text locktype; oid database relation; int4 page; int2 tuple; text virtualxid; int8 "
        "transactionid; oid classid objid; int2 objsubid; text virtualtransaction; int4 pid; "
        "text mode; bool granted fastpath; timestamptz waitstart"
    ),
    "pg_matviews": (
        "name schemaname matviewname matviewowner tablespace; bool hasindexes ispopulated; text "
        "definition"
    ),
    "pg_namespace": ("oid oid; name nspname; oid nspowner; text[] nspacl"),
    "pg_opclass": (
        "oid oid opcmethod; name opcname; oid opcnamespace opcowner opcfamily opcintype; bool "
        "opcdefault; oid opckeytype"
    ),
    "pg_operator": (
        "oid oid; name oprname; oid oprnamespace oprowner; char oprkind; bool oprcanmerge "
        "oprcanhash; oid oprleft oprright oprresult oprcom oprnegate; regproc oprcode oprrest "
        "oprjoin"
    ),
    "pg_opfamily": ("oid oid opfmethod; name opfname; oid opfnamespace opfowner"),
    "pg_parameter_acl": ("oid oid; text parname; text[] paracl"),
    "pg_partitioned_table": (
        "oid partrelid; char partstrat; int2 partnatts; oid partdefid; int2[] partattrs; oid[] "
        "partclass partcollation; text partexprs"
    ),
    "pg_policies": (
        "name schemaname tablename policyname; text permissive; name[] roles; text cmd qual "
        "with_check"
    ),
    "pg_policy": (
        "oid oid; name polname; oid polrelid; char polcmd; bool polpermissive; oid[] polroles; "
        "text polqual polwithcheck"
    ),
    "pg_prepared_xacts": ("int8 transaction; text gid; timestamptz prepared; name owner database"),
    "pg_proc": (
        "oid oid; name proname; oid pronamespace proowner prolang; float4 procost prorows; oid "
        "provariadic; regproc prosupport; char prokind; bool prosecdef proleakproof proisstrict "
        "proretset; char provolatile proparallel; int2 pronargs pronargdefaults; oid "
        "prorettype; oid[] proargtypes proallargtypes; char[] proargmodes; text[] proargnames; "
        "text proargdefaults; oid[] protrftypes; text prosrc probin prosqlbody; text[] "
        "proconfig proacl"
    ),
    "pg_publication": (
        "oid oid; name pubname; oid pubowner; bool puballtables pubinsert pubupdate pubdelete "
        "pubtruncate pubviaroot"
    ),
    "pg_publication_namespace": ("oid oid pnpubid pnnspid"),
    "pg_publication_rel": ("oid oid prpubid prrelid; text prqual; int2[] prattrs"),
    "pg_range": (
        "oid rngtypid rngsubtype rngmultitypid rngcollation rngsubopc; regproc rngcanonical "
        "rngsubdiff"
    ),
    "pg_rewrite": (
        "oid oid; name rulename; oid ev_class; char ev_type ev_enabled; bool is_instead; text "
        "ev_qual ev_action"
    ),
    "pg_roles": (
        "name rolname; bool rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin "
        "rolreplication; int4 rolconnlimit; text rolpassword; timestamptz rolvaliduntil; bool "
        "rolbypassrls; text[] rolconfig; oid oid"
    ),
    "pg_rules": ("name schemaname tablename rulename; text definition"),
    "pg_seclabels": (
        "oid objoid classoid; int4 objsubid; text objtype; oid objnamespace; text objname "
        "provider label"
    ),
    "pg_sequence": (
        "oid seqrelid seqtypid; int8 seqstart seqincrement seqmax seqmin seqcache; bool seqcycle"
    ),
    "pg_sequences": (
        "name schemaname sequencename sequenceowner; regtype data_type; int8 start_value "
        "min_value max_value increment_by; bool cycle; int8 cache_size last_value"
    ),
    "pg_settings": (
        "text name setting unit category short_desc extra_desc context vartype source min_val "
        "max_val; text[] enumvals; text boot_val reset_val sourcefile; int4 sourceline; bool "
        "pending_restart"
    ),
    "pg_shadow": (
        "name usename; oid usesysid; bool usecreatedb usesuper userepl usebypassrls; text "
        "passwd; timestamptz valuntil; text[] useconfig"
    ),
    "pg_shdepend": ("oid dbid classid objid; int4 objsubid; oid refclassid refobjid; char deptype"),
    "pg_shdescription": ("oid objoid classoid; text description"),
    "pg_stat_activity": (
        "oid datid; name datname; int4 pid leader_pid; oid usesysid; name usename; text "
        "application_name client_addr client_hostname; int4 client_port; timestamptz "
        "backend_start xact_start query_start state_change; text wait_event_type wait_event "
        "state; int8 backend_xid backend_xmin query_id; text query backend_type"
    ),
    "pg_stat_ssl": (
        "int4 pid; bool ssl; text version cipher; int4 bits; text client_dn; numeric "
        "client_serial; text issuer_dn"
    ),
    "pg_stat_user_indexes": (
        "oid relid indexrelid; name schemaname relname indexrelname; int8 idx_scan; timestamptz "
        "last_idx_scan; int8 idx_tup_read idx_tup_fetch"
    ),
    "pg_stat_user_tables": (
        "oid relid; name schemaname relname; int8 seq_scan; timestamptz last_seq_scan; int8 "
        "seq_tup_read idx_scan; timestamptz last_idx_scan; int8 idx_tup_fetch n_tup_ins "
        "n_tup_upd n_tup_del n_tup_hot_upd n_tup_newpage_upd n_live_tup n_dead_tup "
        "n_mod_since_analyze n_ins_since_vacuum; timestamptz last_vacuum last_autovacuum "
        "last_analyze last_autoanalyze; int8 vacuum_count autovacuum_count analyze_count "
        "autoanalyze_count"
    ),
    "pg_statio_user_tables": (
        "oid relid; name schemaname relname; int8 heap_blks_read heap_blks_hit idx_blks_read "
        "idx_blks_hit toast_blks_read toast_blks_hit tidx_blks_read tidx_blks_hit"
    ),
    "pg_statistic_ext": (
        "oid oid stxrelid; name stxname; oid stxnamespace stxowner; int4 stxstattarget; int2[] "
        "stxkeys; char[] stxkind; text stxexprs"
    ),
    "pg_stats": (
        "name schemaname tablename attname; bool inherited; float4 null_frac; int4 avg_width; "
        "float4 n_distinct; text[] most_common_vals; float4[] most_common_freqs; text[] "
        "histogram_bounds; float4 correlation; text[] most_common_elems; float4[] "
        "most_common_elem_freqs elem_count_histogram"
    ),
    "pg_subscription": (
        "oid oid subdbid; text subskiplsn; name subname; oid subowner; bool subenabled "
        "subbinary; char substream subtwophasestate; bool subdisableonerr subpasswordrequired "
        "subrunasowner; text subconninfo; name subslotname; text subsynccommit; text[] "
        "subpublications; text suborigin"
    ),
    "pg_tables": (
        "name schemaname tablename tableowner tablespace; bool hasindexes hasrules hastriggers "
        "rowsecurity"
    ),
    "pg_tablespace": ("oid oid; name spcname; oid spcowner; text[] spcacl spcoptions"),
    "pg_transform": ("oid oid trftype trflang; regproc trffromsql trftosql"),
    "pg_trigger": (
        "oid oid tgrelid tgparentid; name tgname; oid tgfoid; int2 tgtype; char tgenabled; bool "
        "tgisinternal; oid tgconstrrelid tgconstrindid tgconstraint; bool tgdeferrable "
        "tginitdeferred; int2 tgnargs; int2[] tgattr; bytea tgargs; text tgqual; name "
        "tgoldtable tgnewtable"
    ),
    "pg_ts_config": ("oid oid; name cfgname; oid cfgnamespace cfgowner cfgparser"),
    "pg_ts_dict": (
        "oid oid; name dictname; oid dictnamespace dictowner dicttemplate; text dictinitoption"
    ),
    "pg_ts_parser": (
        "oid oid; name prsname; oid prsnamespace; regproc prsstart prstoken prsend prsheadline "
        "prslextype"
    ),
    "pg_ts_template": ("oid oid; name tmplname; oid tmplnamespace; regproc tmplinit tmpllexize"),
    "pg_type": (
        "oid oid; name typname; oid typnamespace typowner; int2 typlen; bool typbyval; char "
        "typtype typcategory; bool typispreferred typisdefined; char typdelim; oid typrelid; "
        "regproc typsubscript; oid typelem typarray; regproc typinput typoutput typreceive "
        "typsend typmodin typmodout typanalyze; char typalign typstorage; bool typnotnull; oid "
        "typbasetype; int4 typtypmod typndims; oid typcollation; text typdefaultbin typdefault; "
        "text[] typacl"
    ),
    "pg_user": (
        "name usename; oid usesysid; bool usecreatedb usesuper userepl usebypassrls; text "
        "passwd; timestamptz valuntil; text[] useconfig"
    ),
    "pg_user_mapping": ("oid oid umuser umserver; text[] umoptions"),
    "pg_user_mappings": (
        "oid umid srvid; name srvname; oid umuser; name usename; text[] umoptions"
    ),
    "pg_views": ("name schemaname viewname viewowner; text definition"),
}

INFORMATION_SCHEMA: dict[str, str] = {
    "attributes": (
        "name udt_catalog udt_schema udt_name attribute_name; int4 ordinal_position; text "
        "attribute_default is_nullable data_type; int4 character_maximum_length "
        "character_octet_length; name character_set_catalog character_set_schema "
        "character_set_name collation_catalog collation_schema collation_name; int4 "
        "numeric_precision numeric_precision_radix numeric_scale datetime_precision; text "
        "interval_type; int4 interval_precision; name attribute_udt_catalog "
        "attribute_udt_schema attribute_udt_name scope_catalog scope_schema scope_name; int4 "
        "maximum_cardinality; name dtd_identifier; text is_derived_reference_attribute"
    ),
    "character_sets": (
        "name character_set_catalog character_set_schema character_set_name "
        "character_repertoire form_of_use default_collate_catalog default_collate_schema "
        "default_collate_name"
    ),
    "check_constraints": (
        "name constraint_catalog constraint_schema constraint_name; text check_clause"
    ),
    "column_privileges": (
        "name grantor grantee table_catalog table_schema table_name column_name; text "
        "privilege_type is_grantable"
    ),
    "columns": (
        "name table_catalog table_schema table_name column_name; int4 ordinal_position; text "
        "column_default is_nullable data_type; int4 character_maximum_length "
        "character_octet_length numeric_precision numeric_precision_radix numeric_scale "
        "datetime_precision; text interval_type; int4 interval_precision; name "
        "character_set_catalog character_set_schema character_set_name collation_catalog "
        "collation_schema collation_name domain_catalog domain_schema domain_name udt_catalog "
        "udt_schema udt_name scope_catalog scope_schema scope_name; int4 maximum_cardinality; "
        "name dtd_identifier; text is_self_referencing is_identity identity_generation "
        "identity_start identity_increment identity_maximum identity_minimum identity_cycle "
        "is_generated generation_expression is_updatable"
    ),
    "constraint_column_usage": (
        "name table_catalog table_schema table_name column_name constraint_catalog "
        "constraint_schema constraint_name"
    ),
    "constraint_table_usage": (
        "name table_catalog table_schema table_name constraint_catalog constraint_schema "
        "constraint_name"
    ),
    "domains": (
        "name domain_catalog domain_schema domain_name; text data_type; int4 "
        "character_maximum_length character_octet_length; name character_set_catalog "
        "character_set_schema character_set_name collation_catalog collation_schema "
        "collation_name; int4 numeric_precision numeric_precision_radix numeric_scale "
        "datetime_precision; text interval_type; int4 interval_precision; text domain_default; "
        "name udt_catalog udt_schema udt_name scope_catalog scope_schema scope_name; int4 "
        "maximum_cardinality; name dtd_identifier"
    ),
    "element_types": (
        "name object_catalog object_schema object_name; text object_type; name "
        "collection_type_identifier; text data_type; int4 character_maximum_length "
        "character_octet_length; name character_set_catalog character_set_schema "
        "character_set_name collation_catalog collation_schema collation_name; int4 "
        "numeric_precision numeric_precision_radix numeric_scale datetime_precision; text "
        "interval_type; int4 interval_precision; text domain_default; name udt_catalog "
        "udt_schema udt_name scope_catalog scope_schema scope_name; int4 maximum_cardinality; "
        "name dtd_identifier"
    ),
    "enabled_roles": ("name role_name"),
    "information_schema_catalog_name": ("name catalog_name"),
    "key_column_usage": (
        "name constraint_catalog constraint_schema constraint_name table_catalog table_schema "
        "table_name column_name; int4 ordinal_position position_in_unique_constraint"
    ),
    "parameters": (
        "name specific_catalog specific_schema specific_name; int4 ordinal_position; text "
        "parameter_mode is_result as_locator; name parameter_name; text data_type; int4 "
        "character_maximum_length character_octet_length; name character_set_catalog "
        "character_set_schema character_set_name collation_catalog collation_schema "
        "collation_name; int4 numeric_precision numeric_precision_radix numeric_scale "
        "datetime_precision; text interval_type; int4 interval_precision; name udt_catalog "
        "udt_schema udt_name scope_catalog scope_schema scope_name; int4 maximum_cardinality; "
        "name dtd_identifier; text parameter_default"
    ),
    "referential_constraints": (
        "name constraint_catalog constraint_schema constraint_name unique_constraint_catalog "
        "unique_constraint_schema unique_constraint_name; text match_option update_rule "
        "delete_rule"
    ),
    "role_table_grants": (
        "name grantor grantee table_catalog table_schema table_name; text privilege_type "
        "is_grantable with_hierarchy"
    ),
    "routines": (
        "name specific_catalog specific_schema specific_name routine_catalog routine_schema "
        "routine_name; text routine_type; name module_catalog module_schema module_name "
        "udt_catalog udt_schema udt_name; text data_type; int4 character_maximum_length "
        "character_octet_length; name character_set_catalog character_set_schema "
        "character_set_name collation_catalog collation_schema collation_name; int4 "
        "numeric_precision numeric_precision_radix numeric_scale datetime_precision; text "
        "interval_type; int4 interval_precision; name type_udt_catalog type_udt_schema "
        "type_udt_name scope_catalog scope_schema scope_name; int4 maximum_cardinality; name "
        "dtd_identifier; text routine_body routine_definition external_name external_language "
        "parameter_style is_deterministic sql_data_access is_null_call sql_path "
        "schema_level_routine; int4 max_dynamic_result_sets; text is_user_defined_cast "
        "is_implicitly_invocable security_type; name to_sql_specific_catalog "
        "to_sql_specific_schema to_sql_specific_name; text as_locator; timestamptz created "
        "last_altered; text new_savepoint_level is_udt_dependent result_cast_from_data_type "
        "result_cast_as_locator; int4 result_cast_char_max_length "
        "result_cast_char_octet_length; name result_cast_char_set_catalog "
        "result_cast_char_set_schema result_cast_char_set_name result_cast_collation_catalog "
        "result_cast_collation_schema result_cast_collation_name; int4 "
        "result_cast_numeric_precision result_cast_numeric_precision_radix "
        "result_cast_numeric_scale result_cast_datetime_precision; text "
        "result_cast_interval_type; int4 result_cast_interval_precision; name "
        "result_cast_type_udt_catalog result_cast_type_udt_schema result_cast_type_udt_name "
        "result_cast_scope_catalog result_cast_scope_schema result_cast_scope_name; int4 "
        "result_cast_maximum_cardinality; name result_cast_dtd_identifier"
    ),
    "schemata": (
        "name catalog_name schema_name schema_owner default_character_set_catalog "
        "default_character_set_schema default_character_set_name; text sql_path"
    ),
    "sequences": (
        "name sequence_catalog sequence_schema sequence_name; text data_type; int4 "
        "numeric_precision numeric_precision_radix numeric_scale; text start_value "
        "minimum_value maximum_value increment cycle_option"
    ),
    "table_constraints": (
        "name constraint_catalog constraint_schema constraint_name table_catalog table_schema "
        "table_name; text constraint_type is_deferrable initially_deferred enforced "
        "nulls_distinct"
    ),
    "table_privileges": (
        "name grantor grantee table_catalog table_schema table_name; text privilege_type "
        "is_grantable with_hierarchy"
    ),
    "tables": (
        "name table_catalog table_schema table_name; text table_type; name "
        "self_referencing_column_name; text reference_generation; name "
        "user_defined_type_catalog user_defined_type_schema user_defined_type_name; text "
        "is_insertable_into is_typed commit_action"
    ),
    "triggers": (
        "name trigger_catalog trigger_schema trigger_name; text event_manipulation; name "
        "event_object_catalog event_object_schema event_object_table; int4 action_order; text "
        "action_condition action_statement action_orientation action_timing; name "
        "action_reference_old_table action_reference_new_table action_reference_old_row "
        "action_reference_new_row; timestamptz created"
    ),
    "views": (
        "name table_catalog table_schema table_name; text view_definition check_option "
        "is_updatable is_insertable_into is_trigger_updatable is_trigger_deletable "
        "is_trigger_insertable_into"
    ),
}

ADDED_LATER: dict[str, str] = {
    "pg_class": "int4 relallfrozen",
    "pg_collation": "text colllocale",
    "pg_constraint": "bool conenforced conperiod",
    "pg_database": "text datlocale; bool dathasloginevt",
    "pg_publication": "char pubgencols",
}
