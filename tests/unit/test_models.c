/* The ready-made networks: torchvision's names, counts of parameters, shapes; what cannot be made is an error. */
#include "tests/unit/testing.h"

static int nothing_is_left(void **state) {
    (void)state;
    cr_scope_clear();
    return cr_ok() && cr_memory_stats().live_bytes == 0 ? 0 : -1;
}

/* Counts as torchvision's models have them with 1000 classes. */
static void networks_have_torchvisions_parameters(void **state) {
    (void)state;
    const struct {
        cr_nn_module *(*make)(int64_t classes);
        int64_t parameters;
        const char *name, *first;
    } models[] = {{cr_vision_resnet18, 11689512, "layer2.0.downsample.0.weight", "conv1.weight"},
                  {cr_vision_resnet34, 21797672, "layer3.5.bn2.running_var", "conv1.weight"},
                  {cr_vision_resnet50, 25557032, "layer1.0.downsample.1.num_batches_tracked", "conv1.weight"},
                  {cr_vision_mobilenet_v2, 3504872, "features.2.conv.1.1.running_var", "features.0.0.weight"},
                  {cr_vision_vgg11, 132863336, "classifier.6.bias", "features.0.weight"},
                  {cr_vision_vgg16, 138357544, "features.28.weight", "features.0.weight"},
                  {cr_vision_vgg19, 143667240, "features.34.bias", "features.0.weight"}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        cr_nn_module *net = models[i].make(1000);
        assert_cr_ok();
        assert_int_equal(cr_nn_parameter_count(net), models[i].parameters);
        assert_non_null(cr_nn_tensor(net, models[i].name));
        assert_string_equal(cr_nn_parameters(net).names[0], models[i].first);
        cr_nn_free(net);
    }
}

static void forward_has_the_expected_shapes(void **state) {
    (void)state;
    cr_nn_module *net = cr_vision_resnet18(5), *lenet = cr_vision_lenet(10);
    cr_tensor *y = cr_nn_forward(net, cr_randn(CR_F32, CR_SHAPE(2, 3, 32, 32), CR_CPU));
    cr_tensor *digits = cr_nn_forward(lenet, cr_randn(CR_F32, CR_SHAPE(2, 1, 28, 28), CR_CPU));
    assert_cr_ok();
    assert_true(cr_shape_equal(cr_shape_of(y), CR_SHAPE(2, 5)));
    assert_true(cr_shape_equal(cr_shape_of(digits), CR_SHAPE(2, 10)));
    assert_int_equal(cr_nn_parameter_count(lenet), 61706);
    cr_nn_free(net);
    cr_nn_free(lenet);
}

static void dcgan_is_pytorchs_example(void **state) {
    (void)state;
    cr_nn_module *generator = cr_vision_dcgan_generator(), *discriminator = cr_vision_dcgan_discriminator();
    assert_cr_ok();
    assert_int_equal(cr_nn_parameter_count(generator), 3576704);
    assert_int_equal(cr_nn_parameter_count(discriminator), 2765568);
    assert_non_null(cr_nn_tensor(generator, "main.12.weight"));
    assert_non_null(cr_nn_tensor(discriminator, "main.11.weight"));
    cr_tensor *image = cr_nn_forward(generator, cr_randn(CR_F32, CR_SHAPE(2, 100, 1, 1), CR_CPU));
    assert_true(cr_shape_equal(cr_shape_of(image), CR_SHAPE(2, 3, 64, 64)));
    assert_true(cr_shape_equal(cr_shape_of(cr_nn_forward(discriminator, image)), CR_SHAPE(2, 1, 1, 1)));
    cr_nn_free(generator);
    cr_nn_free(discriminator);
}

static void what_cannot_be_made_is_an_error(void **state) {
    (void)state;
    assert_null(cr_vision_dcgan_generator(.image_size = 48));
    assert_cr_error(CR_ERROR_ARGUMENT, "power of two");
    assert_null(cr_vision_dcgan_discriminator(.features = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "features 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(networks_have_torchvisions_parameters, nothing_is_left),
        cmocka_unit_test_teardown(forward_has_the_expected_shapes, nothing_is_left),
        cmocka_unit_test_teardown(dcgan_is_pytorchs_example, nothing_is_left),
        cmocka_unit_test_teardown(what_cannot_be_made_is_an_error, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
