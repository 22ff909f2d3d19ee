/* Recurrent layers. Included by <cresset/ops.h>. */

/* One layer of LSTM in one direction (Hochreiter, Schmidhuber 1997; gates in the order i f g o, as in PyTorch):
 *   i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).
 * x [T, B, in], h0 and c0 [B, H], weight_ih [4H, in], weight_hh [4H, H], biases [4H] or NULL. Returns h of all steps
 * [T, B, H]; h_n and c_n (may be NULL) are the last step's. reverse: time runs from T-1 to 0. */
CR_API cr_tensor *cr_lstm_layer(cr_tensor *x, cr_tensor *h0, cr_tensor *c0, cr_tensor *weight_ih, cr_tensor *weight_hh,
                                cr_tensor *bias_ih, cr_tensor *bias_hh, bool reverse, cr_tensor **h_n, cr_tensor **c_n);
