/*
 * utility_hook.h
 *	  Statements that want no worker in a database.
 */
#ifndef SBA_WORKER_UTILITY_HOOK_H
#define SBA_WORKER_UTILITY_HOOK_H

/* Watch for them; while shared_preload_libraries are loaded. */
extern void sba_watch_utility_statements(void);

#endif							/* SBA_WORKER_UTILITY_HOOK_H */
