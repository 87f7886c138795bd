# written by stzoo; remove this line to keep your edits
import stzoo

demo = stzoo.demo("novel-view")

if __name__ == "__main__":
    demo.launch()
