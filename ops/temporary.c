/* Stands in for ops/shape.c and ops/reduction.c until they land: whoever lands one deletes its part here. */
#include "ops/op.h"
#include <string.h>
cr_tensor *cr_reshape(cr_tensor *t, cr_shape shape);
cr_tensor *cr_expand(cr_tensor *t, cr_shape shape);
cr_tensor *cr_as_strided(cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset);
cr_tensor *cr_as_strided_scatter(cr_tensor *t, cr_tensor *s, cr_shape shape, cr_shape strides, int64_t offset);
#define A_SHAPE(A, op) A(op, DIMS, shape, CR_SHAPE_0D)
CR_OPTIONS(reshape, A_SHAPE)
CR_ATTRIBUTES(reshape, A_SHAPE)
static bool view_reshape(cr_call *c){ const cr_reshape_options*o=c->attributes; cr_shape st; cr_contiguous_strides(o->shape,&st); c->outputs[0]=cr_view_raw(c->inputs[0],o->shape,st,c->inputs[0]->offset); return c->outputs[0]!=NULL; }
static bool vjp_reshape(cr_vjp*v){ return cr_vjp_set(v,0,cr_reshape(v->grads[0],v->input_specs[0].shape)); }
CR_OP(reshape, .inputs="input", CR_ROW_ATTRIBUTES(reshape), .flags=CR_OP_VIEW, .view=view_reshape, .vjp=vjp_reshape)
cr_tensor *cr_reshape(cr_tensor *t, cr_shape shape){ t=cr_contiguous(t); if(!t)return NULL; if(cr_shape_equal(shape,cr_tensor_shape(t))) return t; cr_reshape_options o={sizeof o,shape}; return CR_RUN(reshape,&o,t);}
typedef cr_reshape_options cr_expand_options;
CR_ATTRIBUTES(expand, A_SHAPE)
static bool view_expand(cr_call *c){ const cr_expand_options*o=c->attributes; const cr_tensor*t=c->inputs[0]; cr_shape st={.count=o->shape.count}; for(int i=0;i<st.count;i++){int d=i-(st.count-t->ndim); st.at[i]=d<0||t->sizes[d]==1?0:t->strides[d];} c->outputs[0]=cr_view_raw(t,o->shape,st,t->offset); return c->outputs[0]!=NULL; }
static bool vjp_pass(cr_vjp*v){ return cr_vjp_set(v,0,v->grads[0]); }
CR_OP(expand, .inputs="input", CR_ROW_ATTRIBUTES(expand), .flags=CR_OP_VIEW, .view=view_expand, .vjp=vjp_pass)
cr_tensor *cr_expand(cr_tensor *t, cr_shape shape){ cr_expand_options o={sizeof o,shape}; return CR_RUN(expand,&o,t);}
#define A_STRIDED(A, op) A(op, DIMS, shape, CR_SHAPE_0D) A(op, DIMS, strides, CR_SHAPE_0D) A(op, INT, offset, 0)
CR_OPTIONS(as_strided, A_STRIDED)
CR_ATTRIBUTES(as_strided, A_STRIDED)
static bool view_strided(cr_call *c){ const cr_as_strided_options*o=c->attributes; c->outputs[0]=cr_view_raw(c->inputs[0],o->shape,o->strides,c->inputs[0]->offset+o->offset); return c->outputs[0]!=NULL; }
static bool vjp_strided(cr_vjp*v){ const cr_as_strided_options*o=v->attributes; return cr_vjp_set(v,0,cr_as_strided_scatter(cr_zeros(v->input_specs[0].dtype,v->input_specs[0].shape,CR_CPU),v->grads[0],o->shape,o->strides,o->offset)); }
CR_OP(as_strided, .inputs="input", CR_ROW_ATTRIBUTES(as_strided), .flags=CR_OP_VIEW, .view=view_strided, .vjp=vjp_strided)
static bool infer_scatter(cr_call*c){ cr_spec_set(c,0,(cr_dtype)c->inputs[0]->dtype,cr_tensor_shape(c->inputs[0])); return true; }
static bool decompose_scatter(cr_call*c){ const cr_as_strided_options*o=c->attributes; cr_tensor*copy=cr_clone(c->inputs[0]); if(!copy)return false; cr_tensor*view=cr_view_raw(copy,o->shape,o->strides,o->offset); if(!cr_copy_(view,c->inputs[1]))return false; c->outputs[0]=copy; return true; }
static bool vjp_scatter(cr_vjp*v){ const cr_as_strided_options*o=v->attributes; if(v->needs[0]&&!cr_vjp_set(v,0,cr_as_strided_scatter(v->grads[0],cr_zeros(v->input_specs[1].dtype,v->input_specs[1].shape,CR_CPU),o->shape,o->strides,o->offset)))return false; return !v->needs[1]||cr_vjp_set(v,1,cr_as_strided(cr_contiguous(v->grads[0]),o->shape,o->strides,o->offset)); }
CR_OP(as_strided_scatter, .inputs="input source", CR_ROW_ATTRIBUTES(as_strided), .infer=infer_scatter, .decompose=decompose_scatter, .vjp=vjp_scatter)
cr_tensor *cr_as_strided(cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset){ cr_as_strided_options o={sizeof o,shape,strides,offset}; return CR_RUN(as_strided,&o,t);}
cr_tensor *cr_as_strided_scatter(cr_tensor *t, cr_tensor *s, cr_shape shape, cr_shape strides, int64_t offset){ cr_as_strided_options o={sizeof o,shape,strides,offset}; return CR_RUN(as_strided_scatter,&o,t,s);}
CR_ATTRIBUTES(sum, CR_SUM_ATTRIBUTES)
static cr_shape kept(const cr_sum_options*o,const cr_shape in){ cr_shape s=in; for(int i=0;i<in.count;i++){bool red=o->dims.count==0; for(int k=0;k<o->dims.count;k++) if(o->dims.at[k]==i||o->dims.at[k]+in.count==i)red=true; if(red)s.at[i]=1;} return s; }
static bool infer_sum(cr_call*c){ const cr_sum_options*o=c->attributes; const cr_tensor*t=c->inputs[0]; cr_shape s=kept(o,cr_tensor_shape(t)); if(!o->keepdim){cr_shape r={.count=0};cr_shape in=cr_tensor_shape(t); for(int i=0;i<s.count;i++){bool red=o->dims.count==0;for(int k=0;k<o->dims.count;k++)if(o->dims.at[k]==i||o->dims.at[k]+in.count==i)red=true; if(!red)r.at[r.count++]=in.at[i];} s=r;} cr_spec_set(c,0,cr_dtype_is_floating((cr_dtype)t->dtype)?(cr_dtype)t->dtype:CR_I64,s); return true;}
static bool decompose_sum(cr_call*c){ const cr_sum_options*o=c->attributes; cr_tensor*t=cr_contiguous(cr_cast(c->inputs[0],CR_F64)); if(!t)return false; cr_shape in=cr_tensor_shape(t),k=kept(o,in),st; cr_contiguous_strides(k,&st); cr_tensor*r=cr_zeros(CR_F64,k,CR_CPU); if(!r)return false; const double*x=cr_data(t);double*y=cr_data(r); int64_t idx[8]={0}; for(int64_t i=0;i<t->numel;i++){int64_t off=0;for(int d=0;d<in.count;d++)if(k.at[d]!=1||in.at[d]==1)off+=idx[d]*st.at[d]; y[off]+=x[i]; for(int d=in.count-1;d>=0&&++idx[d]==in.at[d];d--)idx[d]=0;} c->outputs[0]=cr_cast(cr_reshape(r,c->specs[0].shape),c->specs[0].dtype); return c->outputs[0]!=NULL;}
static bool vjp_sum(cr_vjp*v){ const cr_sum_options*o=v->attributes; return cr_vjp_set(v,0,cr_expand(cr_reshape(v->grads[0],kept(o,v->input_specs[0].shape)),v->input_specs[0].shape)); }
CR_OP(sum, .inputs="input", CR_ROW_ATTRIBUTES(sum), .infer=infer_sum, .decompose=decompose_sum, .vjp=vjp_sum)
cr_tensor *cr_sum_with(cr_tensor *x, const cr_sum_options *o){ return CR_RUN(sum,o,x); }
