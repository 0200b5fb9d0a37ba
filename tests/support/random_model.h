/* A random Mixtral of about 100,000 parameters as a Hugging Face directory with the default model's
 * tokenizer: something that can be opened, prompted and scored wherever the tests run. */
#ifndef TEST_RANDOM_MODEL_H
#define TEST_RANDOM_MODEL_H

/* folder must exist. seed: of the weights. */
void random_model_write(const char *folder, unsigned seed);
/* The same with another most number of positions than 256. */
void random_model_write_context(const char *folder, unsigned seed, int context);
/* The same as a Mistral, without experts: no choice of the router turns a small error into a large
 * one. */
void random_model_write_dense(const char *folder, unsigned seed, int context);

#endif
