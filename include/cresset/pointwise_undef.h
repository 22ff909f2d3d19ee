/* Clears the row macros of pointwise.def after a reading of it. */
#undef CR_POINTWISE_1
#undef CR_POINTWISE_1_P
#undef CR_POINTWISE_1_PQ
#undef CR_POINTWISE_2
#undef CR_POINTWISE_2_P
#undef CR_POINTWISE_2_PQ
#undef CR_POINTWISE_3
#undef CR_POINTWISE_3_P
