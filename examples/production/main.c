/* Draws with a generator that was traced and saved: nothing of the model's source is here. */
#include <cresset.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr,
                "usage: production PROGRAM.safetensors PICTURE.png [SEED]\n"
                "Draws 64 pictures with the program that examples/dcgan leaves: generator-program.safetensors\n");
        return 2;
    }
    cr_manual_seed(argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    cr_graph *generator = cr_jit_load(argv[1], CR_CPU);
    CR_SCOPE {
        cr_shape shape = cr_jit_input_shape(generator, 0);
        if (shape.count) shape.at[0] = 64; /* the batch is free: it was traced with .dynamic_batch */
        cr_tensor *pictures = cr_jit_forward(generator, cr_randn(CR_F32, shape, CR_CPU));
        cr_vision_save_image(cr_vision_make_grid(pictures, .normalize = true, .low = -1, .high = 1), argv[2]);
    }
    cr_jit_free(generator);
    return cr_report(stderr);
}
