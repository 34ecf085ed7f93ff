/*
 * cppcheck.h
 *	  Stands in for the server's headers, which cppcheck does not read.
 */
#define foreach(cell, list) \
	for ((cell) = first_cell(list); (cell) != NULL; (cell) = next_cell(list, cell))
#define SBA_FUNCTION(name) extern Datum name(PG_FUNCTION_ARGS)
#define PG_FUNCTION_ARGS FunctionCallInfo fcinfo
#define PG_MODULE_MAGIC extern int magic
#define PGDLLEXPORT
#define PG_TRY() if (server_goes_on())
#define PG_CATCH() else
#define PG_FINALLY()
#define PG_END_TRY()
#define Assert(condition) if (!(condition)) abort()
#define PG_VERSION_NUM 150000
#define SBA_VERSION "lint"
#define CppAsString(identifier) #identifier
#define CppAsString2(x) CppAsString(x)
