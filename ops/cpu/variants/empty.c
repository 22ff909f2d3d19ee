static int unused __attribute__((unused));
