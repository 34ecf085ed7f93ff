/*
 * launcher.h
 *	  The process that starts workers when jobs are due.
 */
#ifndef SBA_WORKER_LAUNCHER_H
#define SBA_WORKER_LAUNCHER_H

/* Have the server start it; while shared_preload_libraries are loaded. */
extern void sba_register_launcher(void);

#endif							/* SBA_WORKER_LAUNCHER_H */
