/*
 * shared_memory.h
 *	  What all sessions share when the library is preloaded.
 */
#ifndef SBA_PG_SHARED_MEMORY_H
#define SBA_PG_SHARED_MEMORY_H

/*
 * Have the server make room for it; while shared_preload_libraries are
 * loaded.  Otherwise nothing is shared, and nothing needs to be.
 */
extern void sba_request_shared_memory(void);

#endif							/* SBA_PG_SHARED_MEMORY_H */
