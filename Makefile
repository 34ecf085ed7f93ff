# Builds and installs the extension with PGXS; PG_CONFIG=... picks the server.
# Everything else (demo, check, ...) is in GNUmakefile, which make reads first.

EXTENSION = smartbox_anomaly
MODULE_big = smartbox_anomaly

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error "$(PG_CONFIG)" leads to no PGXS: install the server's development files (Debian: postgresql-server-dev-15), name another pg_config with PG_CONFIG=..., or run "scripts/install-dependencies build")
endif

# A build outside the source tree sets VPATH to the source tree.
ifdef VPATH
source := $(VPATH)
else
source := .
endif

EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(source)/$(EXTENSION).control)

SOURCES := $(sort $(patsubst $(source)/%,%,$(wildcard $(source)/src/*/*.c)))
OBJS := $(SOURCES:.c=.o)

INSTALL_SCRIPT_SQL := sql/$(EXTENSION)--$(EXTVERSION).sql
SQL_PARTS := $(sort $(wildcard $(source)/sql/[0-9]*.sql))
DATA = $(patsubst $(source)/%,%,$(wildcard $(source)/sql/$(EXTENSION)--*--*.sql))
DATA_built = $(INSTALL_SCRIPT_SQL)
SCRIPTS_built = bin/smartbox-train bin/smartbox-inference

PG_CPPFLAGS = -I$(source)/src -DSBA_VERSION='"$(EXTVERSION)"' $(EXPORT_CPPFLAGS)
# Functions called through pointers have parameters that not all of them use,
# and the server counts rows and arguments in signed and unsigned types by turns.
# The same seed must give the same bytes on every machine: no fused operations.
PG_CFLAGS = -Wextra -Wno-unused-parameter -Wno-sign-compare -ffp-contract=off $(HIDDEN_CFLAGS)
SHLIB_LINK = -lcurl -lyajl -lm

# Symbols are hidden unless PGDLLEXPORT says otherwise.  PostgreSQL does this
# by itself from version 16 on; on 15 the macro is empty unless we define it.
HIDDEN_CFLAGS = $(if $(filter 15,$(MAJORVERSION)),-fvisibility=hidden)
EXPORT_CPPFLAGS = $(if $(filter 15,$(MAJORVERSION)),-DPGDLLEXPORT='__attribute__((visibility("default")))')

EXTRA_CLEAN = build

# Inlining into queries gains nothing here and would need clang.
override with_llvm = no

include $(PGXS)

.DELETE_ON_ERROR:

# Debian's PostgreSQL is built without dependency tracking.
$(OBJS): $(wildcard $(source)/src/*/*.h) $(source)/$(EXTENSION).control $(source)/Makefile

$(INSTALL_SCRIPT_SQL): $(SQL_PARTS) $(source)/$(EXTENSION).control
	@$(MKDIR_P) $(@D)
	cat $(SQL_PARTS) </dev/null > $@

$(SCRIPTS_built): $(source)/bin/smartbox.sh $(source)/$(EXTENSION).control
	@$(MKDIR_P) $(@D)
	sed -e 's/@PROGRAM@/$(@F)/' -e 's/@VERSION@/$(EXTVERSION)/' $< > $@
	chmod +x $@

# By their full names, else make takes the source tree's folders for these.
ifdef VPATH
build_folders := $(addprefix $(CURDIR)/,$(sort $(dir $(OBJS))))
$(OBJS): | $(build_folders)
$(build_folders):
	$(MKDIR_P) $@
endif
