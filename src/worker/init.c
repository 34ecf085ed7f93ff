/*
 * init.c
 *	  What happens when the server loads the library.
 */
#include "postgres.h"

#include "fmgr.h"

#include "pg/settings.h"
#include "pg/shared_memory.h"
#include "worker/launcher.h"
#include "worker/utility_hook.h"

#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "smartbox_anomaly",.version = SBA_VERSION);
#else
PG_MODULE_MAGIC;
#endif

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	sba_define_settings();
	sba_request_shared_memory();
	sba_register_launcher();
	sba_watch_utility_statements();
}
