/* Between the table, the dispatcher and the CPU's kernels. */
#ifndef CRESSET_OPS_TABLE_H
#define CRESSET_OPS_TABLE_H

/* Builds the table on first use. */
void cr_table_ready(void);
/* ops/cpu/: installs the kernels of the best instruction set that this processor and CR_CPU allow. */
void cr_cpu_install_kernels(void);

#endif
