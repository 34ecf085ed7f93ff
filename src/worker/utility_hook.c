/*
 * utility_hook.c
 *	  Statements that want no worker in a database.
 *
 * DROP DATABASE and the like refuse to work while anybody is connected, and
 * DROP EXTENSION waits for who uses a table.  The server tells background
 * workers nothing about that (before version 19), so here these statements end
 * the workers first; they are back when the transaction has ended, if there is
 * still something for them to do.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "pg/worker_registry.h"
#include "worker/utility_hook.h"

static ProcessUtility_hook_type next_hook = NULL;

static void
pause_named(const char *database)
{
	Oid			oid = get_database_oid(database, true);

	if (OidIsValid(oid))
		sba_pause_workers(oid);
}

static bool
is_our_extension(const char *name)
{
	return strcmp(name, "smartbox_anomaly") == 0;
}

static void
before_create_database(const CreatedbStmt *statement)
{
	const char *template = "template1";
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	pause_named(template);
	sba_wake_for_databases_at_commit();
}

static void
before_drop(const DropStmt *statement)
{
	ListCell   *cell;

	if (statement->removeType != OBJECT_EXTENSION)
		return;
	foreach(cell, statement->objects)
	{
		if (is_our_extension(strVal(lfirst(cell))))
			sba_pause_workers(MyDatabaseId);
	}
}

static void
before_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			before_create_database((CreatedbStmt *) statement);
			break;
		case T_DropdbStmt:
			pause_named(((DropdbStmt *) statement)->dbname);
			sba_wake_for_databases_at_commit();
			break;
		case T_AlterDatabaseStmt:
			/* SET TABLESPACE, which moves its files, and ALLOW_CONNECTIONS */
			pause_named(((AlterDatabaseStmt *) statement)->dbname);
			sba_wake_for_databases_at_commit();
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
			{
				pause_named(((RenameStmt *) statement)->subname);
				sba_wake_for_databases_at_commit();
			}
			break;
		case T_CreateExtensionStmt:
			if (is_our_extension(((CreateExtensionStmt *) statement)->extname))
				sba_wake_for_jobs_at_commit(false);
			break;
		case T_AlterExtensionStmt:
			if (is_our_extension(((AlterExtensionStmt *) statement)->extname))
				sba_pause_workers(MyDatabaseId);
			break;
		case T_DropStmt:
			before_drop((DropStmt *) statement);
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	before_statement(planned->utilityStmt);
	(next_hook != NULL ? next_hook : standard_ProcessUtility)
		(planned, query, read_only_tree, context, parameters, environment, receiver, completion);
}

void
sba_watch_utility_statements(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
